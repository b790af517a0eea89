"""One control of all evaluates the rules, for as long as it leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from control.alert_store import Held, MemoryAlertStore
from runtime.clock import Clock, SystemClock
from tests.unit.control.alerting.bench import Bench, put, state


class OddStore(MemoryAlertStore):
    """Breaks when it is asked who leads, in a way that nobody foresaw."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked_at: list[float] = []

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Held]:
        async def held() -> bool:
            raise RuntimeError

        self.asked_at.append(SystemClock().monotonic())
        yield held


async def test_a_fault_that_stops_all_of_it_is_met_later_and_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.alerting.TICK_S", 0.01)
    bench.parts.alerts = store = OddStore(bench.parts.clock)
    alerting, stop = bench.new(bench.parts.sums), asyncio.Event()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(alerting.run(stop))
        while len(store.asked_at) < 5:
            await asyncio.sleep(0)
        stop.set()

    # After 20, 40, 80 and 160 ms.
    assert store.asked_at[4] - store.asked_at[0] >= 0.3


async def test_who_leads_no_more_says_that_nothing_fires(
    bench: Bench, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.alerting.TICK_S", 0.0)
    await put(api)
    bench.calls(11)
    stop, seen = asyncio.Event(), list[float]()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.alerting.run(stop))
        for leads, firing in ((True, 1), (False, 0)):
            bench.parts.alerts.is_leader = leads
            while bench.parts.metrics.value("hubgate_alerts_firing") != firing:
                await asyncio.sleep(0)
            seen.append(firing)
        stop.set()

    assert seen == [1, 0]


async def test_a_control_that_stops_evaluates_no_further(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    for name in ("a", "b"):
        await put(api, name)
    goes_on = iter([True, False])

    async def asked() -> bool:
        return next(goes_on)

    await bench.alerting.evaluate(asked)

    assert (await state(api, "a"))["evaluatedAt"] is not None
    assert (await state(api, "b"))["evaluatedAt"] is None


async def test_a_control_that_does_not_lead_does_nothing(
    bench: Bench, api: httpx.AsyncClient
) -> None:
    await put(api)
    bench.calls(11)
    bench.parts.alerts.is_leader = False
    stop = asyncio.Event()

    running = asyncio.create_task(bench.alerting.run(stop))
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        stop.set()
        await running

    assert (await state(api))["evaluatedAt"] is None
