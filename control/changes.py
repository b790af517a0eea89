"""One change of the configuration: validate, keep, hand out, await, or turn back.

Order of a change, under one lock: the model's rules; Envoy's own verdict; a pending
revision; the sidecars' rules; every connected Envoy. Then the revision is active, or,
when an Envoy refuses it, rejected, and everything is as it was before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from control.change_ports import Ports
from control.model import GatewayConfig
from control.parse import ConfigRefused, Problem, from_document
from control.store import Revision, Status, StoreUnavailable
from control.xds.cache import Published
from control.xds.deployment import Deployment
from control.xds.snapshot import (
    Addresses,
    ResourceType,
    Snapshot,
    build,
    with_registered,
)
from control.xds.subscription import Refusal
from runtime.logs import get_logger

log = get_logger(__name__)

ACK_DEADLINE_S = 10.0
#: Instances come and go all the time: an Envoy that is slow to answer, and gets them
#: when it does, must not hold back the next.
REGISTERED_DEADLINE_S = 0.5
#: Author of revisions that come from the configuration file.
FILE_AUTHOR = "file"

Document = dict[str, Any]
Edit = Callable[[Document], Document]


class NotReady(Exception):
    """No configuration is in force yet: control is still starting."""


@dataclass(frozen=True, slots=True)
class Applied:
    """In force; Envoys in `waiting_for` get it when they answer again."""

    revision: Revision
    published: Published


@dataclass(frozen=True, slots=True)
class Rejected:
    """Envoy's reason; nothing has changed."""

    reason: str
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class _InForce:
    revision: Revision
    config: GatewayConfig
    snapshot: Snapshot


class Changes:
    """The configuration in force and the only way to change it."""

    def __init__(
        self, ports: Ports, deployment: Deployment, variables: Mapping[str, str]
    ) -> None:
        self._ports = ports
        self._deployment = deployment
        self._variables = variables
        self._lock = asyncio.Lock()
        self._in_force: _InForce | None = None
        self._registered: Addresses = {}
        self._refused_rev = 0

    @property
    def revision(self) -> Revision:
        """Raises NotReady."""
        return self._now().revision

    @property
    def config(self) -> GatewayConfig:
        """Raises NotReady."""
        return self._now().config

    @property
    def envoys(self) -> tuple[str, ...]:
        """Those that are connected to this control."""
        return self._ports.snapshots.nodes

    async def start(self, file: GatewayConfig) -> None:
        """Put the stored configuration in force, or the file's.

        The file counts when nothing is stored, and when it was edited since it was
        last taken: who changed the configuration last decides.

        Raises:
            StoreUnavailable: try again.
            ConfigRefused: neither can be put in force.
        """
        async with self._lock, self._ports.store.exclusive():
            active = await self._ports.store.active()
            document = file.document()
            refused = None if active is None else await self._resume_stored(active)
            if active is None or not await self._is_taken(document, active):
                outcome = await self._apply(document, FILE_AUTHOR, "configuration file")
                if isinstance(outcome, Rejected):
                    self._complain(outcome)
            elif refused is not None:
                raise refused

    async def apply(self, edit: Edit, author: str, comment: str) -> Applied | Rejected:
        """Change the document in force by `edit`, a function that copies.

        Raises:
            ConfigRefused: the model's rules; nothing has changed.
            StoreUnavailable: it could not be kept; nothing has changed.
            NotReady: nothing is in force yet.
        """
        self._now()
        async with self._lock, self._ports.store.exclusive():
            await self._catch_up()
            return await self._apply(
                edit(self._now().revision.document), author, comment
            )

    async def tried(self, document: Document) -> GatewayConfig | Rejected:
        """What applying it would find out before any Envoy hears of it.

        Raises:
            ConfigRefused: the model's rules.
            NotReady: nothing is in force yet.
        """
        self._now()
        config, _, refused = await self._examined(document)
        return config if refused is None else refused

    async def kept(self, rev: int) -> Revision | None:
        """A revision of the history. Raises StoreUnavailable."""
        return await self._ports.store.revision(rev)

    async def history(self, before: int, limit: int) -> Sequence[Revision]:
        """As the store has it. Raises StoreUnavailable."""
        return await self._ports.store.history(before, limit)

    async def follow(self) -> None:
        """Put in force what another control has made active, remove what is unused.

        Raises:
            StoreUnavailable: try again.
        """
        self._ports.snapshots.retire()
        if await self._ports.store.active_rev() > self._known_rev():
            async with self._lock:
                await self._catch_up()

    def takes_instances(self, service: str) -> bool:
        """Whether instances may register: not beside DNS names. Raises NotReady."""
        return service in self._now().snapshot.of(ResourceType.ENDPOINTS)

    async def take_registered(self, registered: Addresses) -> None:
        """Serve these instances beside those of the document."""
        if registered == self._registered:
            return
        async with self._lock:
            self._registered = registered
            now = self._in_force
            if now is None:
                return
            snapshot = with_registered(
                now.snapshot, now.config, self._variables, registered
            )
            self._in_force = replace(now, snapshot=snapshot)
            await self._ports.snapshots.publish(snapshot, REGISTERED_DEADLINE_S)

    async def _is_taken(self, document: Document, active: Revision) -> bool:
        """Whether it was put in force, or refused: at a start, or by hand since."""
        last = await self._ports.store.latest_by(FILE_AUTHOR)
        same = await self._ports.store.latest_of(document)
        if last is None or same is None or same.rev < last.rev:
            return False
        # Else control ended in the midst of it.
        return same.status is not Status.PENDING or same.rev < active.rev

    def _now(self) -> _InForce:
        if self._in_force is None:
            raise NotReady
        return self._in_force

    def _known_rev(self) -> int:
        return max(self._now().revision.rev, self._refused_rev)

    async def _catch_up(self) -> None:
        active = await self._ports.store.active()
        if active is None or active.rev <= self._known_rev():
            return
        try:
            await self._resume(active)
        except ConfigRefused as refused:
            # A newer control may know fields that this one does not.
            self._refused_rev = active.rev
            log.error("another control's revision is refused", reason=str(refused))  # noqa: TRY400 - expected, no traceback

    async def _resume_stored(self, active: Revision) -> ConfigRefused | None:
        """Why not, if this version refuses what an earlier one took."""
        try:
            await self._resume(active)
        except ConfigRefused as refused:
            remedy = Problem(
                "document",
                f"revision {active.rev} is in force and refused; edit the"
                " configuration file, and it takes its place",
            )
            return ConfigRefused([*refused.problems, remedy])
        return None

    async def _resume(self, active: Revision) -> None:
        config: GatewayConfig = from_document(active.document)
        snapshot = await asyncio.to_thread(self._build, config)
        outcome = await self._hand_out(config, snapshot)
        if isinstance(outcome, Refusal) and self._in_force is not None:
            self._refused_rev = active.rev
            log.error("an Envoy refuses a revision", reason=outcome.reason)
            return
        self._is_now(_InForce(active, config, snapshot))

    async def _apply(
        self, document: Document, author: str, comment: str
    ) -> Applied | Rejected:
        config, snapshot, refused = await self._examined(document)
        if refused is not None:
            return refused
        revision = await self._ports.store.add(document, author, comment)
        outcome = await self._hand_out(config, snapshot)
        if isinstance(outcome, Refusal):
            await self._note_rejected(revision, outcome.reason)
            return Rejected(outcome.reason, revision.rev)
        try:
            await self._ports.store.settle(revision.rev, Status.ACTIVE)
        except StoreUnavailable:
            # Kept nowhere, it would be gone after a restart: better not at all.
            await self._turn_back()
            raise
        self._is_now(_InForce(revision, config, snapshot))
        return Applied(revision, outcome)

    async def _examined(
        self, document: Document
    ) -> tuple[GatewayConfig, Snapshot, Rejected | None]:
        config: GatewayConfig = from_document(document)
        snapshot = await asyncio.to_thread(self._build, config)
        refused = await self._ports.verdict.check(snapshot, config)
        return config, snapshot, None if refused is None else Rejected(refused.reason)

    async def _hand_out(
        self, config: GatewayConfig, snapshot: Snapshot
    ) -> Published | Refusal:
        began = self._ports.clock.monotonic()
        await self._ports.rules.publish(config)
        outcome = await self._ports.snapshots.publish(snapshot, ACK_DEADLINE_S)
        elapsed = self._ports.clock.monotonic() - began
        self._ports.metrics.observe("hubgate_config_publish_seconds", elapsed)
        if isinstance(outcome, Refusal) and self._in_force is not None:
            await self._ports.rules.publish(self._in_force.config)
        return outcome

    async def _turn_back(self) -> None:
        if self._in_force is not None:
            await self._hand_out(self._in_force.config, self._in_force.snapshot)

    async def _note_rejected(self, revision: Revision, reason: str) -> None:
        try:
            await self._ports.store.settle(revision.rev, Status.REJECTED, reason)
        except StoreUnavailable as error:
            # It stays pending, which is never put in force either.
            log.warning("rejection not kept", rev=revision.rev, error=str(error))

    def _is_now(self, in_force: _InForce) -> None:
        self._in_force = in_force
        self._ports.metrics.set("hubgate_config_revision", in_force.revision.rev)
        log.info("configuration in force", revision=in_force.revision.rev)

    def _build(self, config: GatewayConfig) -> Snapshot:
        try:
            return build(config, self._deployment, self._variables, self._registered)
        except ValueError as error:
            raise ConfigRefused([Problem("services", str(error))]) from None

    def _complain(self, outcome: Rejected) -> None:
        problem = Problem("document", f"Envoy refuses it: {outcome.reason}")
        if self._in_force is None:
            raise ConfigRefused([problem])
        log.error("the configuration file is refused", reason=outcome.reason)
