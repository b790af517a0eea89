"""Rules are evaluated, and begin and end to fire."""

from datetime import UTC, datetime, timedelta

import httpx

from control.completeness import Watermark
from control.store import QueryTimeout
from control.window_sums import Filter, MemoryWindowSums, Sums, Window
from tests.builders import NOW
from tests.unit.control.alerting.bench import URL, Bench, put, state


class SlowSums(MemoryWindowSums):
    """A ledger that is too slow to answer."""

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        raise QueryTimeout


class OddSums(MemoryWindowSums):
    """Breaks for one service, in a way that nobody foresaw."""

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        if wanted.service == "odd":
            raise RuntimeError
        return await super().sums(window, wanted)


async def test_an_alert_is_told_when_it_begins_and_when_it_ends(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)

    for _ in range(3):
        await bench.round()
    while_it_fires, shown = bench.told, await state(api)
    await bench.round(60)
    await bench.round()

    assert while_it_fires == ["firing"]
    assert (shown["status"], shown["value"]) == ("firing", 11.0)
    assert bench.told == ["firing", "resolved"]
    assert bench.webhooks.sent[0][0] == URL


async def test_a_new_rule_is_evaluated_at_once_and_then_with_the_others(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    await bench.alerting.evaluate_new()
    first = (await state(api))["evaluatedAt"]
    bench.parts.clock.advance(1)

    await bench.alerting.evaluate_new()

    assert first is not None
    assert (await state(api))["evaluatedAt"] == first


async def test_only_the_calls_that_are_watched_count(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, where={"service": "core"})
    bench.calls(11)

    await bench.round()

    assert (await state(api))["evidence"]["requests"] == 0


async def test_an_hour_that_is_unlike_the_others_is_an_anomaly(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, metric="anomaly", window="1h", threshold=6)
    hour = datetime.fromtimestamp(NOW // 3600 * 3600, UTC) - timedelta(minutes=30)
    for week in range(1, 7):
        bench.calls(20 + week, created_at=hour - timedelta(weeks=week))
    bench.calls(200, created_at=hour)

    await bench.round()

    found = await state(api)
    assert found["status"] == "firing"
    assert found["evidence"]["sameHours"] == [21, 22, 23, 24, 25, 26, 0, 0]
    assert found["evidence"]["value"] == 200


async def test_a_fault_in_one_rule_keeps_no_other_from_being_evaluated(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, where={"service": "odd"})
    await put(api, "b")
    bench.calls(11)
    sums = OddSums()
    sums.rows = bench.parts.sums.rows
    bench.alerting = bench.new(sums)

    await bench.round()

    assert bench.told == ["firing"]
    assert (await state(api))["error"] == "a fault of ours: RuntimeError"
    failures = bench.parts.metrics.value(
        "hubgate_alerts_evaluated_total", result="failed"
    )
    assert failures == 1


async def test_no_lack_is_seen_before_any_node_said_how_complete_the_ledger_is(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, operator="below")
    await bench.round()
    before = await state(api)
    at = datetime.fromtimestamp(bench.parts.clock.now(), UTC)
    bench.parts.usage.marks.append(
        Watermark(
            node="edge-1",
            complete_through=at,
            basis="file",
            pending=0,
            is_closed=False,
            updated_at=at,
        )
    )
    await bench.round()

    assert (before["status"], before["value"]) == ("inactive", None)
    assert before["evidence"]["reason"].startswith("no node has said")
    assert (await state(api))["status"] == "firing"


async def test_a_ledger_that_does_not_answer_changes_nothing(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    await bench.round()
    bench.alerting = bench.new(SlowSums())

    await bench.round(120)

    found = await state(api)
    assert (found["status"], found["error"]) == ("firing", "the query took too long")
    assert bench.told == ["firing"]


async def test_a_rule_that_is_switched_off_is_over(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    await bench.round()
    await put(api, enabled=False)

    await bench.round()

    assert bench.told == ["firing", "resolved"]


async def test_what_was_pending_before_it_was_switched_off_begins_anew(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    held = {"for": "1m", "window": "1h"}
    await put(api, **held)
    bench.calls(11)
    await bench.round()
    await put(api, **held, enabled=False)
    await bench.round(120)
    switched_off = await state(api)
    await put(api, **held)

    await bench.round()

    assert switched_off["status"] == "inactive"
    assert (await state(api))["status"] == "pending"
