"""Rules are evaluated and told of, whatever is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from control.alert_store import Held, MemoryAlertStore
from control.alerting import GIVES_UP_AFTER, Alerting, AlertPorts
from control.api import create_app
from control.completeness import Watermark
from control.store import QueryTimeout
from control.webhook import MemoryWebhooks
from control.window_sums import Filter, MemoryWindowSums, Sums, Window
from runtime.clock import Clock, SystemClock
from tests.builders import NOW, a_token
from tests.builders_control import ADMIN_TOKEN, Parts

ALERTS = "/control/v1/alerts"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
URL = "https://alerts.example.com/hook"


class SlowSums(MemoryWindowSums):
    """A ledger that is too slow to answer."""

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        raise QueryTimeout


class Uneven(MemoryWebhooks):
    """One breaks at once, in a way that nobody foresaw; the others take a while."""

    async def send(self, url: str, body: Mapping[str, Any], message_id: str) -> None:
        if "broken" in url:
            raise RuntimeError
        for _ in range(10):
            await asyncio.sleep(0)
        await super().send(url, body, message_id)


class OddSums(MemoryWindowSums):
    """Breaks for one service, in a way that nobody foresaw."""

    async def sums(self, window: Window, wanted: Filter) -> Sums:
        if wanted.service == "odd":
            raise RuntimeError
        return await super().sums(window, wanted)


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


class Bench:
    def __init__(self) -> None:
        self.parts = Parts()
        self.webhooks = MemoryWebhooks()
        self.alerting = self.new(self.parts.sums)

    def new(self, sums: MemoryWindowSums) -> Alerting:
        ports = AlertPorts(
            store=self.parts.alerts,
            sums=sums,
            usage=self.parts.usage,
            webhooks=self.webhooks,
            clock=self.parts.clock,
            metrics=self.parts.metrics,
        )
        return Alerting(ports, 15.0)

    def calls(self, number: int, **changes: Any) -> None:
        at = datetime.fromtimestamp(self.parts.clock.now(), UTC)
        row = {
            "created_at": at - timedelta(seconds=1),
            "status": 200,
            "tokens": 0,
            "credits": 0,
            "duration_ms": 5,
            "service": "openai",
            **changes,
        }
        self.parts.sums.rows += [row] * number

    async def round(self, seconds: float = 15.0) -> None:
        await self.alerting.evaluate()
        await self.alerting.deliver()
        self.parts.clock.advance(seconds)

    @property
    def told(self) -> list[str]:
        return [str(body["status"]) for _, body in self.webhooks.sent]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(bench.parts.deps()))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c", headers=ADMIN
    ) as client:
        yield client


async def put(api: httpx.AsyncClient, name: str = "a", **changes: Any) -> None:
    body = {"metric": "volume", "threshold": 10, "window": "1m", "webhook": URL}
    answer = await api.put(f"{ALERTS}/{name}", json={**body, **changes})
    assert answer.status_code in (200, 201), answer.text


async def state(api: httpx.AsyncClient, name: str = "a") -> dict[str, Any]:
    answer = await api.get(f"{ALERTS}/{name}")
    return dict(answer.json()["state"])


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


async def test_rules_are_put_read_listed_and_deleted(api: httpx.AsyncClient) -> None:
    body = {"metric": "volume", "threshold": 1, "webhook": URL}

    first = await api.put(f"{ALERTS}/a", json=body)
    second = await api.put(f"{ALERTS}/a", json={**body, "threshold": 2})
    listed = await api.get(ALERTS)
    deleted = await api.delete(f"{ALERTS}/a")

    assert (first.status_code, second.status_code) == (201, 200)
    (item,) = listed.json()["items"]
    assert (item["rule"]["id"], item["rule"]["threshold"]) == ("a", 2)
    assert item["state"]["status"] == "inactive"
    assert deleted.json() == {"deleted": "a"}
    assert (await api.get(f"{ALERTS}/a")).status_code == 404
    assert (await api.delete(f"{ALERTS}/a")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metric": "volume", "threshold": 1}, "webhook"),
        ({"metric": "x", "threshold": 1, "webhook": URL}, "metric"),
        ({"metric": "volume", "threshold": "?", "webhook": URL}, "threshold"),
        (
            {"metric": "volume", "threshold": 1, "webhook": "https://10.0.0.1/"},
            "webhook",
        ),
        (
            {"metric": "volume", "threshold": 1, "webhook": "https://a..example/"},
            "webhook",
        ),
        ({"id": "b", "metric": "volume", "threshold": 1, "webhook": URL}, "id"),
    ],
)
async def test_a_bad_rule_is_answered_by_field(
    api: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await api.put(f"{ALERTS}/a", json=body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("changes", "field", "given"),
    [
        pytest.param('"threshold": 1e999', "threshold", "inf", id="no number"),
        pytest.param(
            r'"labels": {"a": "\ud800"}', "labels.a", "\ud800", id="half a character"
        ),
        pytest.param(r'"\ud800": 1', "document", "\ud800", id="of a name"),
        pytest.param(
            r'"where": {"userId": "a\u0000b"}', "where.userId", "a\0b", id="NUL"
        ),
        pytest.param(f'"webhook": "{"x" * 999}"', "webhook", "x" * 256, id="long"),
    ],
)
async def test_what_no_rule_can_hold_is_said_back(
    api: httpx.AsyncClient, changes: str, field: str, given: object
) -> None:
    known = f'"metric": "volume", "threshold": 1, "webhook": "{URL}"'
    answer = await api.put(f"{ALERTS}/a", content=f"{{{known}, {changes}}}")
    (problem,) = answer.json()["errors"]

    assert answer.status_code == 422
    assert (problem["field"], problem["given"]) == (field, given)


async def test_rules_are_the_operators_alone(api: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {a_token(role='admin')}"}

    for method in ("GET", "PUT", "DELETE"):
        answer = await api.request(method, f"{ALERTS}/a", headers=headers)
        assert answer.status_code == 401
