"""Evaluates alert rules and tells of them: one control at a time, again and again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from traceback import format_tb
from typing import Any, Final

from control.alert_rules import AlertRule, Metric, hour_of, score, usual_hours
from control.alert_state import Status, failed, step
from control.alert_store import AlertStore, Delivery, Held, Kept
from control.completeness import through
from control.parameters import shown
from control.store import QueryTimeout, StoreUnavailable, UsageQueries
from control.together import together
from control.webhook import NotDelivered, Webhooks
from control.window_sums import WindowSums
from runtime.clock import Clock
from runtime.lifecycle import wait_or_stop
from runtime.logs import get_logger
from runtime.metrics import Metrics

log = get_logger(__name__)

#: Between looks at the outbox, and at who evaluates.
TICK_S: Final = 1.0
_AT_ONCE: Final = 8
_LONGEST_PAUSE_S: Final = 300.0
GIVES_UP_AFTER: Final = timedelta(days=3)
_NOBODY_CLAIMED: Final = "no node has said yet how far the ledger is complete"


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPorts:
    """What alerting needs from outside."""

    store: AlertStore
    sums: WindowSums
    usage: UsageQueries
    webhooks: Webhooks
    clock: Clock
    metrics: Metrics


class Alerting:
    """One per control; only the one that holds the lock does anything."""

    def __init__(self, ports: AlertPorts, interval_s: float) -> None:
        self._ports = ports
        self._interval_s = interval_s

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what fails is tried again."""
        fault_pause_s = TICK_S
        while not stop.is_set():
            pause_s = TICK_S
            try:
                await self._lead(stop)
                fault_pause_s = TICK_S
            except StoreUnavailable as error:
                log.warning("alerts are not evaluated now", error=str(error))
            except Exception:
                log.exception("alerts are not evaluated now")
                pause_s = fault_pause_s = min(2 * fault_pause_s, self._interval_s)
            await wait_or_stop(stop, pause_s)

    async def evaluate(self, goes_on: Held = _always) -> None:
        """Every rule once, while it `goes_on`; raises StoreUnavailable."""
        firing = 0
        for kept in await self._ports.store.rules():
            if not await goes_on():
                return
            if kept.rule.enabled:
                firing += await self._evaluate(kept) is Status.FIRING
            elif kept.state.status is not Status.INACTIVE:
                await self._settle(kept, None, {"reason": "the rule is switched off"})
        self._ports.metrics.set("hubgate_alerts_firing", firing)

    async def evaluate_new(self) -> None:
        """Rules that have never been evaluated; raises StoreUnavailable."""
        for kept in await self._ports.store.rules():
            state = kept.state
            is_new = state.evaluated_at is None and state.error is None
            if kept.rule.enabled and is_new:
                await self._evaluate(kept)

    async def deliver(self) -> None:
        """What is due; raises StoreUnavailable."""
        due = await self._ports.store.due(self._now(), _AT_ONCE)
        sending = [self._send(one) for one in due]
        # All are waited for: what is still being sent must not be due a second time.
        ended = await asyncio.gather(*sending, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _lead(self, stop: asyncio.Event) -> None:
        async with self._ports.store.leading() as held:

            async def goes_on() -> bool:
                return not stop.is_set() and await held()

            if not await goes_on():
                return
            ended = asyncio.Event()
            try:
                # Side by side: a slow ledger keeps no message from being sent, and a
                # slow webhook no rule from being evaluated.
                await together(
                    self._keep_evaluating(goes_on, stop, ended),
                    self._keep_delivering(ended),
                )
            finally:
                # From now on another one says it.
                self._ports.metrics.set("hubgate_alerts_firing", 0)

    async def _keep_evaluating(
        self, goes_on: Held, stop: asyncio.Event, ended: asyncio.Event
    ) -> None:
        next_at = self._ports.clock.monotonic()
        try:
            while await goes_on():
                if self._ports.clock.monotonic() >= next_at:
                    next_at = self._ports.clock.monotonic() + self._interval_s
                    await self.evaluate(goes_on)
                else:
                    await self.evaluate_new()
                await wait_or_stop(stop, TICK_S)
        finally:
            ended.set()

    async def _keep_delivering(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await self.deliver()
            await wait_or_stop(ended, TICK_S)

    async def _evaluate(self, kept: Kept) -> Status:
        try:
            value, evidence = await self._figure(kept.rule)
        except Exception as error:  # noqa: BLE001 - of one rule; the others go on
            self._count("failed")
            reason = _why(error, rule=kept.rule.id)
            await self._ports.store.step(kept, failed(kept.state, reason), None)
            return kept.state.status
        self._count("ok")
        return await self._settle(kept, value, evidence)

    async def _settle(
        self, kept: Kept, value: float | None, evidence: Mapping[str, Any]
    ) -> Status:
        state, message = step(
            kept.rule, kept.state, self._now(), value=value, evidence=evidence
        )
        if await self._ports.store.step(kept, state, message) and message is not None:
            log.info("alert", rule=kept.rule.id, status=message.status)
        return state.status

    async def _figure(self, rule: AlertRule) -> tuple[float | None, dict[str, Any]]:
        instant = through(await self._ports.usage.watermarks())
        window = rule.looks_at(self._now(), instant)
        if window is None:
            return None, {"reason": _NOBODY_CLAIMED, "figure": None}
        sums = await self._ports.sums.sums(window, rule.where.filter())
        value = rule.figure(sums)
        evidence: dict[str, Any] = {
            "from": shown(window.start),
            "until": shown(window.end),
            "requests": sums.requests,
            "completeThrough": None if instant is None else shown(instant),
        }
        if rule.metric is Metric.ANOMALY:
            usual = await self._ports.sums.same_hours(
                usual_hours(hour_of(window)), rule.where.filter()
            )
            value, judged = score(
                value or 0.0, [rule.figure(one) or 0.0 for one in usual]
            )
            evidence |= judged
        return value, {**evidence, "figure": value}

    async def _send(self, delivery: Delivery) -> None:
        store, now = self._ports.store, self._now()
        try:
            await self._ports.webhooks.send(
                delivery.url, delivery.body, _message_id(delivery.body)
            )
        except NotDelivered as error:
            log.warning("alert not delivered", rule=delivery.rule, reason=str(error))
            await self._postpone(delivery, str(error), "failed")
        except Exception as error:  # noqa: BLE001 - of one message; the others go on
            _say_fault(error, rule=delivery.rule)
            await self._postpone(delivery, type(error).__name__, "fault")
        else:
            await store.delivered(delivery, now)
            self._told("delivered")

    async def _postpone(self, delivery: Delivery, reason: str, result: str) -> None:
        now = self._now()
        gives_up = now - delivery.created_at > GIVES_UP_AFTER
        pause = min(2.0**delivery.attempts, _LONGEST_PAUSE_S)
        next_at = None if gives_up else now + timedelta(seconds=pause)
        await self._ports.store.postponed(delivery, reason, next_at)
        self._told("given_up" if gives_up else result)

    def _count(self, result: str) -> None:
        self._ports.metrics.inc("hubgate_alerts_evaluated_total", result=result)

    def _told(self, result: str) -> None:
        self._ports.metrics.inc("hubgate_alerts_messages_total", result=result)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._ports.clock.now(), UTC)


def _message_id(body: Mapping[str, Any]) -> str:
    """The same whenever it is sent, and no other installation's."""
    (alert,) = body["alerts"]
    return f"{alert['fingerprint']}-{alert['startsAt']}-{body['status']}"


def _why(error: Exception, rule: str) -> str:
    match error:
        case QueryTimeout():
            return "the query took too long"
        case StoreUnavailable():
            return "no answer"
        case _:
            _say_fault(error, rule)
            return f"a fault of ours: {type(error).__name__}"


def _say_fault(error: Exception, rule: str) -> None:
    """Where it was, and not its words, which may quote a webhook's URL."""
    where = "".join(format_tb(error.__traceback__))
    fault = type(error).__name__
    log.error("alert hit a fault of ours", rule=rule, fault=fault, where=where)
