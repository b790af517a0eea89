"""Is every request in the ledger? Asks those who must know, round after round.

Witnesses beside the stream of batches: Envoy's file log (what ended), authz's journal
(what was let pass) and Envoy's admin interface (whether it still is the same Envoy).
Each is optional; what is not there is not asked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics
from usage_sink.access_log import AccessLog
from usage_sink.completeness import (
    Basis,
    Certainty,
    Facts,
    Watermark,
    complete_through,
    count_admitted,
    publish,
    published,
)
from usage_sink.envoy_admin import EnvoyAdmin, EnvoyAway
from usage_sink.errors import LedgerUnavailable
from usage_sink.evidence_settings import EvidenceSettings
from usage_sink.lives import Lives
from usage_sink.plain import Record
from usage_sink.presence import PostgresPresence
from usage_sink.recent import RecentIds
from usage_sink.reconcile import FLUSH_S, Reconciler, Spool, is_loaded
from usage_sink.settle import QUIET_S, Settlement

log = get_logger(__name__)

_ROUND_S: Final = 0.5
#: Envoy that answered is not asked again in each round: no claim reaches further than
#: a second before now, whatever Envoy says (`completeness`, `reconcile.FLUSH_S`).
_ASK_ENVOY_S: Final = 1.0
#: Each claim is a transaction of its own.
_PUBLISH_S: Final = 1.0
#: A request without a row for so long, with everything loaded, is an alarm.
_MISSING_AFTER_S: Final = 60.0
#: For the last rounds at a stop.
_CLOSE_S: Final = 2.0
_POSITION: Final = "access-log.position"


@dataclass(frozen=True, slots=True)
class Place:
    """`node` is Envoy's name as well as ours; `state` is a folder of our own."""

    node: str
    state: Path


class Evidence:
    """`run` until stopped, then `close` when the loader has ended."""

    def __init__(
        self,
        settings: EvidenceSettings,
        place: Place,
        spool: Spool,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        presence = PostgresPresence(settings.database_url, settings.database_timeout_s)
        self._rotate_bytes = settings.access_log_rotate_bytes
        self._node = place.node
        self._spool = spool
        self._presence = presence
        self._clock = clock
        self._metrics = metrics
        self._recent = RecentIds()
        self._lives = Lives()
        self._certainty: Certainty | None = None
        #: Before this start; None: nothing ever was.
        self._claimed: float | None = None
        self._started = clock.now()
        self._published_at = 0.0
        self._is_envoy_here = False
        self._envoy_asked_at = 0.0
        self._failing: set[str] = set()
        address, folder = settings.envoy_admin, settings.authz_journal_dir
        self._admin = None if address is None else EnvoyAdmin(address)
        self._log: AccessLog | None = None
        self._reconciler: Reconciler | None = None
        if settings.access_log_file is not None:
            self._log = AccessLog(settings.access_log_file, place.state / _POSITION)
            self._reconciler = Reconciler(
                self._log, presence, self._recent, spool, clock, metrics
            )
        self._settlement: Settlement | None = None
        if folder is not None:
            self._settlement = Settlement(
                folder=folder,
                presence=presence,
                recent=self._recent,
                spool=spool,
                clock=clock,
                metrics=metrics,
                lives=self._lives,
                grace=settings.grace(),
            )

    def committed(self, records: Iterable[Record]) -> None:
        """The loader has written these."""
        self._recent.add([record.id for record in records])

    async def run(self, stop: asyncio.Event) -> None:
        """Round after round; what fails is tried again in the next."""
        await self._part("open", self._open())
        while not await wait_or_stop(stop, _ROUND_S):
            await self._round()

    async def close(self) -> None:
        """Say that nothing is on its way, if it is so; then let go of everything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._close_claim()
        await self._release()

    async def _release(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._admin is not None:
            await self._admin.close()
        self._presence.close()

    async def _close_claim(self) -> None:
        """Only an Envoy that is known to have stopped has nothing more to say."""
        while self._admin is not None:
            self._is_envoy_here = False  # it may have stopped since it was asked
            await self._round(quiet_s=0.0)
            if self._is_envoy_here:
                return
            if self._is_at_rest():
                await self._part("ledger", self._publish(is_closed=True))
                return
            await wait_or_stop(asyncio.Event(), _ROUND_S / 5)

    async def _open(self) -> None:
        if self._log is not None:
            await asyncio.to_thread(self._log.open)
        if self._settlement is not None:
            await asyncio.to_thread(self._settlement.load)

    async def _round(self, quiet_s: float = QUIET_S) -> None:
        await self._part("envoy", self._look_at_envoy())
        if self._reconciler is not None:
            await self._part("file log", self._reconcile(self._reconciler))
        if self._settlement is not None:
            step = self._settlement.step(self._is_evident, quiet_s)
            if await self._part("journal", step):
                await self._part("minutes", self._count(self._settlement))
        await self._part("ledger", self._publish())
        self._show()

    async def _part(self, name: str, work: Awaitable[None]) -> bool:
        """Each part fails alone; True: it did not."""
        try:
            await work
        except (LedgerUnavailable, EnvoyAway, OSError) as error:
            if name not in self._failing:
                log.warning("evidence incomplete for now", part=name, why=str(error))
        except Exception:  # whatever a witness says, the ledger is written on
            log.exception("evidence can't be read", part=name)
        else:
            self._failing.discard(name)
            return True
        self._metrics.inc("hubgate_usage_evidence_failures_total", part=name)
        self._failing.add(name)
        return False

    async def _look_at_envoy(self) -> None:
        if self._admin is None:
            return
        began = self._clock.monotonic()
        if self._is_envoy_here and began - self._envoy_asked_at < _ASK_ENVOY_S:
            return
        self._is_envoy_here, self._envoy_asked_at = False, began
        asked_at = self._clock.now()
        life = await self._admin.life()
        self._is_envoy_here = True
        answered_at = self._clock.now()
        self._lives.observe(life.node, life.incarnation, answered_at)
        if self._certainty is not None:
            self._certainty.seen((life.node, life.incarnation), asked_at, answered_at)
        if self._log is not None and self._log.wants_reopening():
            await self._admin.reopen_logs()

    async def _reconcile(self, reconciler: Reconciler) -> None:
        await reconciler.step(self._node)
        if self._log is not None and self._is_envoy_here:
            now = self._clock.now()
            await asyncio.to_thread(self._log.rotate, self._rotate_bytes, now)

    def _is_evident(self, ended: float) -> bool:
        """Whatever could bring a record of what ended by then has brought it."""
        if not is_loaded(self._spool, ended + FLUSH_S):
            return False
        if self._reconciler is None:
            return True
        through = self._reconciler.complete_through
        return through is not None and through > ended

    async def _count(self, settlement: Settlement) -> None:
        if not settlement.minutes:
            return
        minutes, settlement.minutes = settlement.minutes, Counter()
        try:
            await count_admitted(await self._presence.pool(), minutes)
        except LedgerUnavailable:
            settlement.minutes.update(minutes)
            raise

    async def _publish(self, *, is_closed: bool = False) -> None:
        pool = await self._presence.pool()
        if self._certainty is None:
            self._claimed = await published(pool, self._node)
            self._certainty = Certainty(self._started, self._claimed)
        self._settle_certainty(self._certainty)
        now = self._clock.now()
        through = now if is_closed else complete_through(self._facts(now))
        if through is None:
            # The old claim once more: we are here, and a closed mark is open again.
            through = self._claimed
        if through is None:
            return
        self._metrics.set("hubgate_usage_complete_through_seconds", now - through)
        if not is_closed and now - self._published_at < _PUBLISH_S:
            return
        self._published_at = now
        basis = Basis.STREAM if self._reconciler is None else Basis.FILE
        mark = Watermark(self._node, through, basis, self._pending(), is_closed)
        await publish(pool, mark)

    def _settle_certainty(self, certainty: Certainty) -> None:
        until = certainty.ended_before
        if until is None or not self._is_envoy_here:
            return
        if self._settlement is None or self._settlement.is_settled(until):
            certainty.settled()

    def _facts(self, now: float) -> Facts:
        certain: float | None = now
        if self._admin is not None and self._certainty is not None:
            certain = self._certainty.through
        elif self._settlement is not None:
            certain = self._settlement.certain_through()
        return Facts(
            now=now,
            oldest_pending=self._spool.oldest_pending(),
            logged_through=(
                None if self._reconciler is None else self._reconciler.complete_through
            ),
            basis=Basis.STREAM if self._reconciler is None else Basis.FILE,
            certain_through=certain,
        )

    def _is_at_rest(self) -> bool:
        """Every request that Envoy had has its row, as far as anybody knows."""
        journal = self._settlement
        return (
            not self._pending()
            and not self._failing - {"envoy"}
            and self._spool.oldest_pending() is None
            and (journal is None or not (journal.open or journal.segments))
        )

    def _pending(self) -> int:
        return 0 if self._reconciler is None else self._reconciler.pending

    def _show(self) -> None:
        missing = 0
        if self._reconciler is not None:
            missing += self._reconciler.missing(_MISSING_AFTER_S)
        if self._settlement is not None:
            missing += self._settlement.missing(_MISSING_AFTER_S)
            self._metrics.set("hubgate_usage_open_requests", self._settlement.open)
        self._metrics.set("hubgate_usage_missing", missing)
