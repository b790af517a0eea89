"""What every Presence promises, over the twin and over PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.builders_evidence import a_key
from tests.builders_ledger import a_ledger, a_record, a_store
from usage_sink.errors import LedgerUnavailable
from usage_sink.presence import MemoryPresence, PostgresPresence, Presence

DAY_S = 86_400


@pytest.fixture(
    params=["memory", pytest.param("postgres", marks=pytest.mark.integration)]
)
async def presence(
    request: pytest.FixtureRequest, migrated_url: str
) -> AsyncIterator[Presence]:
    """Requests 1 to 3 have rows."""
    if request.param == "memory":
        memory = MemoryPresence()
        memory.rows = {a_key(number) for number in (1, 2, 3)}
        yield memory
        return
    async with a_ledger(migrated_url) as pool:
        records = []
        for number in (1, 2, 3):
            record, (id_, start) = a_record(), a_key(number)
            at = datetime.fromtimestamp(float(start), UTC)
            event = replace(record.event, id=type(record.event.id)(int=id_))
            records.append(replace(record, event=replace(event, created_at=at)))
        await a_store(pool).write(records)
        postgres = PostgresPresence(migrated_url, 5.0)
        yield postgres
        postgres.close()


async def test_it_names_the_requests_without_a_row(presence: Presence) -> None:
    assert await presence.absent([a_key(number) for number in range(6)]) == {0, 4, 5}
    assert await presence.absent([a_key(2)]) == set()
    assert await presence.absent([]) == set()


async def test_an_id_at_another_instant_is_another_request(presence: Presence) -> None:
    id_, start = a_key(1)
    elsewhere = f"{float(start) + 2 * DAY_S:.6f}"
    assert await presence.absent([(id_, elsewhere), a_key(1)]) == {id_}


@pytest.mark.integration
async def test_many_are_asked_for_in_turns(migrated_url: str) -> None:
    async with a_ledger(migrated_url):
        presence = PostgresPresence(migrated_url, 5.0)
        absent = await presence.absent([a_key(number) for number in range(4500)])
        presence.close()
    assert len(absent) == 4500


async def test_a_ledger_that_is_away_says_so() -> None:
    presence = PostgresPresence("postgresql://127.0.0.1:1/x", 1.0)
    with pytest.raises(LedgerUnavailable):
        await presence.absent([a_key(1)])
