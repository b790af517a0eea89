"""What fires is told of, whatever is away meanwhile."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from control.alerting import GIVES_UP_AFTER
from control.webhook import MemoryWebhooks
from control.window_sums import Filter, MemoryWindowSums, Sums, Window
from tests.unit.control.alerting.bench import Bench, put, state


class Uneven(MemoryWebhooks):
    """One breaks at once, in a way that nobody foresaw; the others take a while."""

    async def send(self, url: str, body: Mapping[str, Any], message_id: str) -> None:
        if "broken" in url:
            raise RuntimeError
        for _ in range(10):
            await asyncio.sleep(0)
        await super().send(url, body, message_id)


class StuckSums(MemoryWindowSums):
    """Answers for one service only when it is told to."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self.answers = asyncio.Event()

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        if wanted.service == self._service:
            await self.answers.wait()
        return await super().sums(window, wanted)


async def test_a_webhook_that_is_away_gets_it_later(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    bench.webhooks.failure = "answered with status 503"
    for _ in range(4):
        await bench.round(60)
    bench.webhooks.failure = None

    for _ in range(3):
        await bench.round(60)

    assert bench.told == ["firing", "resolved"]
    failures = bench.parts.metrics.value(
        "hubgate_alerts_messages_total", result="failed"
    )
    assert failures == 4


async def test_a_slow_question_keeps_no_message_from_being_sent(
    bench: Bench, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.alerting.TICK_S", 0.0)
    await put(api, where={"service": "openai"})
    await put(api, "b", where={"service": "slow"})
    bench.calls(11)
    sums = StuckSums("slow")
    sums.rows = bench.parts.sums.rows
    alerting, stop = bench.new(sums), asyncio.Event()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(alerting.run(stop))
        while not bench.told:
            await asyncio.sleep(0)
        still = (await state(api, "b"))["evaluatedAt"]
        stop.set()
        sums.answers.set()

    assert (bench.told, still) == (["firing"], None)


async def test_what_is_on_its_way_beside_a_failure_is_sent_once(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, webhook="https://broken.example.com/")
    await put(api, "b")
    bench.calls(11)
    bench.webhooks = Uneven()
    bench.alerting = bench.new(bench.parts.sums)
    await bench.alerting.evaluate()

    for _ in range(2):
        await bench.alerting.deliver()

    assert bench.told == ["firing"]


async def test_a_fault_of_ours_is_tried_again_later_and_later(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api, webhook="https://broken.example.com/")
    bench.calls(11)
    bench.webhooks = Uneven()
    bench.alerting = bench.new(bench.parts.sums)
    await bench.alerting.evaluate()
    tried, metrics = list[int](), bench.parts.metrics

    for second in range(20):
        await bench.alerting.deliver()
        faults = metrics.value("hubgate_alerts_messages_total", result="fault")
        if faults > len(tried):
            tried.append(second)
        bench.parts.clock.advance(1)
    bench.parts.clock.advance(GIVES_UP_AFTER.total_seconds())
    await bench.alerting.deliver()

    assert tried == [0, 1, 3, 7, 15]
    assert metrics.value("hubgate_alerts_messages_total", result="given_up") == 1
    assert bench.parts.alerts.outbox[0].error == "RuntimeError"


async def test_after_days_a_message_is_given_up(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    bench.webhooks.failure = "no answer"
    await bench.round(GIVES_UP_AFTER.total_seconds() + 1)

    await bench.round()

    given_up = bench.parts.metrics.value(
        "hubgate_alerts_messages_total", result="given_up"
    )
    assert given_up == 1


async def test_each_message_has_an_id_of_its_own_in_every_installation(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    for _ in range(2):
        await bench.round(90)
    (first,) = bench.webhooks.sent[0][1]["alerts"]

    assert bench.webhooks.ids == [
        f"{first['fingerprint']}-{first['startsAt']}-{status}"
        for status in ("firing", "resolved")
    ]
