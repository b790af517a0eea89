"""What every AlertStore promises, in memory and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control.alert_rules import AlertRule
from control.alert_state import Message, Status, step
from control.alert_store import AlertStore, Kept, MemoryAlertStore
from control.alerts_postgres import PostgresAlertStore
from control.database import Database
from control.store import StoreUnavailable
from runtime.clock import SystemClock

CLOCK = SystemClock()
NOW = datetime.fromtimestamp(CLOCK.now(), UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 5.0, CLOCK)
    assert await database.connect(asyncio.Event())
    yield database
    await database.close()


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
def store(request: pytest.FixtureRequest) -> AlertStore:
    if request.param == "memory":
        return MemoryAlertStore(CLOCK)
    return PostgresAlertStore(request.getfixturevalue("database"))


def a_rule(name: str = "a", **changes: Any) -> AlertRule:
    return AlertRule.model_validate(
        {
            "id": name,
            "metric": "volume",
            "threshold": 10,
            "webhook": "https://alerts.example.com/",
            **changes,
        }
    )


async def kept(store: AlertStore, name: str = "a") -> Kept:
    found = await store.get(name)
    assert found is not None
    return found


async def go(
    store: AlertStore, value: float, now: datetime, before: Kept | None = None
) -> tuple[bool, Message | None]:
    before = before or await kept(store)
    state, message = step(before.rule, before.state, now, value=value, evidence={})
    return await store.step(before, state, message), message


async def statuses(store: AlertStore, now: datetime = LATER) -> list[str]:
    return [one.body["status"] for one in await store.due(now, 10)]


async def test_rules_are_put_changed_listed_and_deleted(store: AlertStore) -> None:
    assert await store.put(a_rule("b"), NOW)
    assert await store.put(a_rule("a"), NOW)
    assert not await store.put(a_rule("a", threshold=20), NOW)

    assert [one.rule.id for one in await store.rules()] == ["a", "b"]
    assert (await kept(store)).rule.threshold == 20
    assert await store.delete("a", NOW)
    assert not await store.delete("a", NOW)
    assert await store.get("a") is None


async def test_a_state_and_its_message_are_kept_together(store: AlertStore) -> None:
    await store.put(a_rule(), NOW)

    assert (await go(store, 11.5, NOW))[0]

    found = await kept(store)
    assert (found.state.status, found.state.value) == (Status.FIRING, 11.5)
    assert await statuses(store) == ["firing"]


async def test_an_evaluation_of_what_has_changed_meanwhile_is_dropped(
    store: AlertStore,
) -> None:
    await store.put(a_rule(), NOW)
    before = await kept(store)
    await store.put(a_rule(threshold=100), NOW)
    changed = await kept(store)
    assert (await go(store, 5, NOW, changed))[0]

    assert not (await go(store, 11, NOW, before))[0]
    assert not (await go(store, 101, NOW, changed))[0]

    assert await statuses(store) == []


async def test_a_changed_rule_keeps_its_state(store: AlertStore) -> None:
    await store.put(a_rule(), NOW)
    await go(store, 11, NOW)
    await store.put(a_rule(threshold=100), NOW)

    assert (await kept(store)).state.status is Status.FIRING
    assert (await go(store, 50, LATER))[0]
    assert (await kept(store)).state.status is Status.INACTIVE


async def test_what_is_pending_begins_anew_when_its_rule_changes(
    store: AlertStore,
) -> None:
    await store.put(a_rule(**{"for": "1h"}), NOW)
    await go(store, 11, NOW)
    await store.put(a_rule(metric="spend", **{"for": "1m"}), LATER)
    changed = await kept(store)

    await go(store, 11, LATER)

    assert (changed.state.status, changed.state.since) == (Status.INACTIVE, LATER)
    assert (await kept(store)).state.status is Status.PENDING
    assert await statuses(store) == []


async def test_a_message_may_be_sent_at_once_by_the_clock_of_who_told_it(
    store: AlertStore,
) -> None:
    long_ago = NOW - timedelta(hours=1)
    await store.put(a_rule(), long_ago)
    await go(store, 11, long_ago)

    assert await statuses(store, long_ago) == ["firing"]


async def test_messages_of_a_rule_are_sent_in_order(store: AlertStore) -> None:
    await store.put(a_rule(), NOW)
    await go(store, 11, NOW)
    await go(store, 0, LATER)
    (first,) = await store.due(LATER, 10)
    await store.postponed(first, "away", LATER + timedelta(seconds=9))

    assert await statuses(store) == []
    (again,) = await store.due(LATER + timedelta(seconds=9), 10)
    assert (again.id, again.attempts) == (first.id, 1)
    await store.delivered(again, LATER)
    assert await statuses(store) == ["resolved"]


async def test_a_message_that_is_given_up_lets_the_next_pass(store: AlertStore) -> None:
    await store.put(a_rule(), NOW)
    await go(store, 11, NOW)
    await go(store, 0, LATER)
    (first,) = await store.due(LATER, 10)

    await store.postponed(first, "away for days", None)

    assert await statuses(store) == ["resolved"]


async def test_messages_of_other_rules_do_not_wait(store: AlertStore) -> None:
    for name in ("a", "b"):
        await store.put(a_rule(name), NOW)
        await go(store, 11, NOW, await kept(store, name))
    (first, _) = await store.due(LATER, 10)
    await store.postponed(first, "away", LATER + timedelta(days=1))

    assert [one.rule for one in await store.due(LATER, 10)] == ["b"]


async def test_a_rule_that_is_deleted_while_it_fires_is_told_to_be_over(
    store: AlertStore,
) -> None:
    await store.put(a_rule(), NOW)
    await go(store, 11, NOW)
    (firing,) = await store.due(LATER, 10)
    await store.delivered(firing, LATER)

    await store.delete("a", LATER)

    (over,) = await store.due(LATER, 10)
    assert over.body["status"] == "resolved"
    assert (
        over.body["alerts"][0]["fingerprint"] == firing.body["alerts"][0]["fingerprint"]
    )


async def test_the_same_message_is_kept_once(store: AlertStore) -> None:
    await store.put(a_rule(), NOW)
    _, message = await go(store, 11, NOW)
    found = await kept(store)

    again = replace(found.state, value=12.0)
    assert await store.step(found, again, message)

    assert await statuses(store) == ["firing"]


@pytest.mark.integration
async def test_a_rule_of_a_newer_control_does_not_stop_the_others(
    database: Database,
) -> None:
    store = PostgresAlertStore(database)
    for name in ("a", "b"):
        await store.put(a_rule(name), NOW)
    await database.pool.execute(
        'UPDATE alert_rules SET document = document || \'{"metric": "new"}\''
        " WHERE id = 'a'"
    )

    assert [one.rule.id for one in await store.rules()] == ["b"]
    assert await store.get("a") is None
    assert await store.delete("a", NOW)


@pytest.mark.integration
async def test_one_control_evaluates_at_a_time(database: Database) -> None:
    one, other = PostgresAlertStore(database), PostgresAlertStore(database)

    async with one.leading() as first, other.leading() as second:
        assert await first()
        assert not await second()
        assert await first()

    async with other.leading() as second:
        assert await second()


@pytest.mark.integration
async def test_a_control_that_falls_silent_leads_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.alerts_postgres.SILENT_FOR", "100ms")
    one, other = PostgresAlertStore(database), PostgresAlertStore(database)

    async with one.leading() as first, other.leading() as second:
        assert await first()
        async with asyncio.timeout(10):
            while not await second():
                await asyncio.sleep(0.01)

        with pytest.raises(StoreUnavailable):
            await first()
