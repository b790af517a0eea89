"""What a query may say, and what is said of a bad one."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from control.parameters import BadParameters
from control.usage import Cursor, parse_query
from tests.builders import a_token
from tests.unit.control.usage.ledger import LOGS, START, bearer


async def test_bad_parameters_are_all_named(api: httpx.AsyncClient) -> None:
    answer = await api.get(
        f"{LOGS}?limit=0&offset=-1&startDate=x&endDate=2026-13-01&cursor=!&foo=1"
        "&model=a&model=b",
        headers=bearer(a_token()),
    )
    twice = await api.get(f"{LOGS}?limit=1&limit=2", headers=bearer(a_token()))

    assert answer.status_code == 422
    assert twice.json()["errors"][0]["field"] == "limit"


def test_every_bad_parameter_is_reported() -> None:
    names = {"limit": "201", "offset": "x", "startDate": "x", "endDate": "2026-13-01"}
    names |= {"status": "6xx", "outcome": "Ok", "sort": "tokens", "fields": "id,id"}
    names |= {"aggregate": "1"}

    with pytest.raises(BadParameters) as refused:
        parse_query({**names, "cursor": "!", "foo": "1", "userId": "", "model": "\n"})

    assert {one.field for one in refused.value.problems} == {
        *names,
        "cursor",
        "foo",
        "userId",
        "model",
    }


def test_a_last_day_is_included_and_a_last_instant_is_not() -> None:
    day = parse_query({"startDate": "2026-01-31", "endDate": "2026-01-31"})
    instant = parse_query({"endDate": "2026-01-31T12:00:00+02:00"})

    assert (day.chosen.start, day.chosen.end) == (
        datetime(2026, 1, 31, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
    )
    assert instant.chosen.end == datetime(2026, 1, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01T00:00:00+14:00"])
def test_a_date_at_the_edge_of_time_is_no_crash(text: str) -> None:
    with pytest.raises(BadParameters, match="give one that is not at the edge"):
        parse_query({"endDate": text})


@pytest.mark.parametrize(
    "text", ["20260131", "2026-W05-6", "2026-01-31\x0008:00:00", "2026-01-31x08:00"]
)
def test_what_is_neither_a_day_nor_an_instant_is_refused(text: str) -> None:
    with pytest.raises(BadParameters):
        parse_query({"endDate": text})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026-01-31T08:00:00Z",
            "2026-01-31T09:00+01:00",
            "2026-01-31T08:00:00.000000Z",
        ),
        *("2026-01-31T09:00:00 01:00", "2026-01-31 08:00", "20260131T080000Z"),
    ],
)
def test_an_instant_may_be_written_in_each_of_these_ways(text: str) -> None:
    at = parse_query({"endDate": text}).chosen.end

    assert at == datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_a_cursor_survives_the_journey() -> None:
    cursor = Cursor(START + timedelta(microseconds=1), UUID(int=7))

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "AAAA",
        "=",
        "MS4x",
        "." * 1000,
        "\0" * 4 + str(Cursor(START, UUID(int=7))),
    ],
)
def test_another_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nextCursor"):
        Cursor.parse(text)


async def test_a_start_after_the_end_is_named(api: httpx.AsyncClient) -> None:
    answer = await api.get(
        f"{LOGS}?startDate=2026-02-01&endDate=2026-01-01", headers=bearer(a_token())
    )
    (problem,) = answer.json()["errors"]

    assert answer.status_code == 422
    assert (problem["field"], problem["given"]) == ("startDate", "2026-02-01")
