"""Sums of the ledger are the sums of its rows, however they are asked for."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.database import Database
from control.parameters import BadParameters
from control.periods import Unit
from control.summary import parse_query, summarize
from control.usage_totals import (
    DIMENSIONS,
    MEASURES,
    ORDERS,
    Cells,
    RowsArchived,
)
from control.usage_totals_postgres import PostgresTotals
from runtime.clock import SystemClock
from tests.builders_ledger import a_record, a_store
from tests.builders_sums import ADJUSTMENTS, FIRST, LAST, RECORDS, fill, instants, twin
from usage_sink.compaction import compact

ZONES: Final = (
    *("UTC", "Europe/Berlin", "America/Los_Angeles"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
)


@pytest.fixture
async def url(migrated_url: str) -> str:
    await fill(migrated_url)
    return migrated_url


@pytest.fixture
async def kept(url: str) -> AsyncIterator[PostgresTotals]:
    database = Database(url, 5.0, SystemClock())
    assert await database.connect(asyncio.Event())
    yield PostgresTotals(database)
    await database.close()


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, str]:
    start, end = sorted((draw(instants()), draw(instants())))
    end = max(end, start + timedelta(seconds=1))
    groups = draw(st.lists(st.sampled_from(tuple(DIMENSIONS)), unique=True))
    unit = draw(st.sampled_from((None, *Unit)))
    chosen = {
        "userId": draw(st.sampled_from((None, None, "u-1"))),
        "service": draw(st.sampled_from((None, None, "core"))),
        "model": draw(st.sampled_from((None, None, "m-1"))),
        "statusClass": draw(st.sampled_from((None, None, "2", "0"))),
        "groupBy": ",".join([*groups, *([unit] if unit else [])]) or None,
        "sort": draw(st.sampled_from(tuple(ORDERS))),
        "timeZone": draw(st.sampled_from(ZONES)),
        "limit": str(draw(st.integers(1, 6))),
        "offset": str(draw(st.integers(0, 4))),
        "startDate": start.isoformat(),
        "endDate": end.isoformat(),
    }
    return {name: value for name, value in chosen.items() if value is not None}


async def answer(totals: Any, asked: dict[str, str], users: Any = None) -> Any:
    query = parse_query(asked, LAST.timestamp())
    async with totals.snapshot() as snapshot:
        return await summarize(snapshot, query, users)


@pytest.mark.integration
async def test_answers_are_what_the_rows_and_corrections_add_up_to(
    kept: PostgresTotals, url: str
) -> None:
    """Random ranges, zones, filters and groups; the tables against the rows."""
    loop, rows = asyncio.get_running_loop(), twin()
    seen = 0

    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(asked=parameters(), users=st.sampled_from((None, frozenset({"u-2", "u-3"}))))
    def check(asked: dict[str, str], users: Any) -> None:
        nonlocal seen
        found, expected = (
            asyncio.run_coroutine_threadsafe(answer(one, asked, users), loop).result(30)
            for one in (kept, rows)
        )
        for one in (found, expected):  # not counted when it was not needed
            if one["other"] is not None:
                one["other"].pop("groups")
        assert found == expected
        seen += found["totals"]["requests"]

    await asyncio.to_thread(check)
    # Some days were stale; now all of them are summed, and a week is.
    async with asyncpg.create_pool(url) as pool:
        await compact(pool, (LAST + timedelta(days=3)).timestamp())
    await asyncio.to_thread(check)
    assert seen > len(RECORDS)


@pytest.mark.integration
@pytest.mark.parametrize("sort", ORDERS)
async def test_who_called_before_or_after_the_range_only_is_no_group(
    kept: PostgresTotals, url: str, sort: str
) -> None:
    """Also where those days' sums are taken, and the rest of them taken away."""
    day = datetime(2026, 11, 6, tzinfo=UTC)
    start, end = day + timedelta(hours=3), day + timedelta(days=1, hours=18)
    within = {"early": start, "late": end - timedelta(seconds=1)}
    outside = {"before": start - timedelta(seconds=1), "after": end, "both": end}
    called = [*within.items(), *outside.items(), ("both", start)]
    async with asyncpg.create_pool(url) as pool:
        await a_store(pool).write(
            [a_record(user_id=user, created_at=at) for user, at in called]
        )
        await compact(pool, (day + timedelta(days=3)).timestamp())
    asked = {
        "groupBy": "userId",
        "sort": sort,
        "limit": "3",
        "startDate": start.isoformat(),
        "endDate": end.isoformat(),
    }

    found = await answer(kept, asked)

    assert [one["userId"] for one in found["items"]] == ["both", "early", "late"]
    assert [one["requests"] for one in found["items"]] == [1, 1, 1]
    assert found["other"]["groups"] == 0


@pytest.mark.integration
async def test_the_pages_of_groups_add_up_to_the_total(kept: PostgresTotals) -> None:
    asked = {
        "groupBy": "userId,model,route",
        "sort": "credits",
        "limit": "7",
        "startDate": FIRST.isoformat(),
        "endDate": LAST.isoformat(),
    }
    pages = [await answer(kept, {**asked, "offset": str(at)}) for at in range(0, 70, 7)]
    items = [item for page in pages for item in page["items"]]
    total = pages[0]["totals"]

    assert total["requests"] == len(RECORDS)
    assert total["adjustments"]["tokens"] == sum(one.tokens for one in ADJUSTMENTS)
    for name in ("requests", "errors", "tokens", "credits"):
        assert sum(item[name] for item in items) == total[name]
    keys = [(item["userId"], item["model"], item["route"]) for item in items]
    assert len(set(keys)) == len(keys)


@pytest.mark.integration
@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("unit", Unit)
async def test_users_over_time_are_the_same_as_users_at_once(
    kept: PostgresTotals, sort: str, unit: Unit
) -> None:
    asked = {
        "sort": sort,
        "limit": "3",
        "offset": "1",
        "startDate": FIRST.isoformat(),
        "endDate": LAST.isoformat(),
        "timeZone": "Asia/Kolkata",
    }
    at_once = await answer(kept, {**asked, "groupBy": "userId"})
    over_time = await answer(kept, {**asked, "groupBy": f"userId,{unit}"})
    for item in (*over_time["items"], over_time["other"]):
        periods = item.pop("periods")
        assert sum(one["requests"] for one in periods) == item["requests"]
    for item in (*at_once["items"], at_once["other"]):
        assert item.pop("periods") is None

    assert len(over_time["items"]) == 3
    assert over_time["items"] == at_once["items"]
    assert over_time["other"] == at_once["other"]
    assert over_time["totals"] == at_once["totals"]


@pytest.mark.integration
async def test_only_from_the_first_sums_on_is_an_index_not_gone_along(
    kept: PostgresTotals,
) -> None:
    """The newest row and the last seal are found by one; sums are read by page."""
    show = "SHOW enable_indexscan"
    async with kept.snapshot() as snapshot:
        await snapshot.state(FIRST, LAST)
        before = await snapshot.connection.fetchval(show)
        await snapshot.cells(Cells(start=FIRST, end=LAST))
        behind = await snapshot.connection.fetchval(show)

    assert (before, behind) == ("on", "off")


@pytest.mark.integration
async def test_the_state_changes_with_every_row_and_correction_of_the_range(
    kept: PostgresTotals, url: str
) -> None:
    summed = datetime(2026, 10, 26, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC)
    whole = FIRST, LAST

    async def states() -> tuple[str, str]:
        async with kept.snapshot() as snapshot:
            return await snapshot.state(*summed), await snapshot.state(*whole)

    async with asyncpg.create_pool(url) as pool:
        before = await states()
        again = await states()
        await a_store(pool).write([a_record(created_at=LAST)])
        with_a_new_row = await states()
        await a_store(pool).write([a_record(created_at=summed[0])])
        with_a_late_row = await states()
        await compact(pool, LAST.timestamp())
        summed_again = await states()

    assert before == again
    assert with_a_new_row[0] == before[0]
    assert with_a_new_row[1] != before[1]
    assert with_a_late_row[0] != before[0]
    assert summed_again[0] not in (before[0], with_a_late_row[0])


@pytest.mark.integration
async def test_a_quarter_of_an_hour_of_an_archived_day_is_not_split(
    kept: PostgresTotals, url: str
) -> None:
    async with asyncpg.create_pool(url) as pool:
        await pool.execute(
            "INSERT INTO usage_archives (day, file, rows, tokens, credits, sha256, "
            "dropped_at) VALUES ('2026-10-26', 'f', 1, 1, 1, 's', now())"
        )
    asked = {"startDate": "2026-10-26T10:20:00Z", "endDate": "2026-10-27T00:00:00Z"}

    with pytest.raises(RowsArchived, match="2026-10-26"):
        await answer(kept, asked)
    for minute in (0, 30):
        start = f"2026-10-26T10:{minute:02}:00Z"
        found = await answer(kept, {**asked, "startDate": start})
        assert found["totals"]["requests"] > 0


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Europe/Berlin", date(2026, 3, 29), 23),
    ],
)
def test_a_day_is_as_long_as_its_clocks_say(zone: str, day: date, hours: int) -> None:
    asked = {
        "startDate": str(day),
        "endDate": str(day),
        "timeZone": zone,
        "groupBy": "hour",
    }

    query = parse_query(asked, LAST.timestamp())

    assert query.asked.end - query.asked.start == timedelta(hours=hours)
    assert len(query.periods) == hours


@pytest.mark.parametrize(
    "asked",
    [
        {"groupBy": "day,week"},
        {"groupBy": "colour"},
        {"groupBy": "service,service"},
        {"timeZone": "Mars/Olympus"},
        {"timeZone": "../../etc/passwd"},
        {"startDate": "2026-11-02", "endDate": "2026-11-01"},
        {"startDate": "2020-01-01", "endDate": "2026-11-01"},
        {"startDate": "0001-01-01", "endDate": "0001-01-01", "timeZone": "Asia/Tokyo"},
        {"endDate": "9999-12-31"},
        {"statusClass": "6"},
        {"limit": "0"},
        {"limit": "201"},
        {"offset": "-1"},
        {"sort": "name"},
        {"interval": "day"},
        {"groupBy": "hour", "startDate": "2026-01-01", "endDate": "2026-06-01"},
        {"groupBy": "service,hour", "limit": "200"},
    ],
)
def test_what_can_not_be_answered_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(BadParameters):
        parse_query(asked, LAST.timestamp())


def test_measures_are_in_one_order() -> None:
    assert MEASURES[:3] == ("requests", "errors", "tokens")
