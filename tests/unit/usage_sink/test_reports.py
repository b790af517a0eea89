"""Reports of trusted services: what is refused, and what becomes of the others."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError

import hubgate
from hubgate.usage.v1.usage_pb2 import ReportUsageRequest, UsageReport
from runtime.contracts import Outcome, Pricing, UsageSource
from usage_sink.events import Rejected, UsageEvent
from usage_sink.prices import parse
from usage_sink.records import COLUMNS, Origin, UsageRecord
from usage_sink.reports import AHEAD, MAX_REPORTS, OLDEST, BadReports, checked, read
from usage_sink.tokens import Usage

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 22, 9, 30, 15, 541760, tzinfo=UTC)
ID = UUID("0b6f9f1e-6f7a-4a55-8a5c-0d4f8f6a2f10")
PARENT = UUID("8e35a3c2-6a0d-424c-8f1a-5fa902140eea")


def a_report(**changes: Any) -> UsageReport:
    at = changes.pop("occurred_at", NOW)
    fields = {"id": str(ID), "user_id": "u-1", "service": "sora2", **changes}
    report = UsageReport(**fields)
    if at is not None:
        report.occurred_at.FromDatetime(at)
    return report


def payload(*reports: UsageReport) -> bytes:
    return ReportUsageRequest(reports=reports).SerializeToString()


def event(**changes: Any) -> UsageEvent:
    (found,) = read(payload(a_report(**changes)))
    assert isinstance(found, UsageEvent)
    return found


def problem(**changes: Any) -> str:
    with pytest.raises(BadReports) as raised:
        checked(payload(a_report(**changes)), NOW)
    return str(raised.value)


def test_a_report_becomes_an_event_of_its_own_id_and_time() -> None:
    found = event(model="sora2-video", role="user", session_id="s", labels={"job": "7"})

    assert (found.id, found.created_at) == (ID, NOW)
    assert (found.service, found.model, found.user_id) == (
        "sora2",
        "sora2-video",
        "u-1",
    )
    assert (found.outcome, found.is_ai, found.role) == (Outcome.OK, True, "user")
    assert found.labels == (("job", "7"),)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, Usage(UsageSource.REPORTED)),
        ({"input_tokens": 0}, Usage(UsageSource.REPORTED, 0, 0)),
        (
            {
                "input_tokens": 100,
                "output_tokens": 40,
                "cached_tokens": 64,
                "reasoning_tokens": 30,
            },
            Usage(UsageSource.REPORTED, 140, 100, 40, 64, 30),
        ),
    ],
    ids=["nobody counted", "counted as 0", "every kind"],
)
def test_an_absent_count_is_not_zero(counts: dict[str, int], usage: Usage) -> None:
    assert event(**counts).usage == usage


def test_reported_credits_are_exact_and_charged_as_they_are() -> None:
    found = event(credits="0.1")
    charge = parse({"version": "v1", "prices": []}).charge(found)

    assert found.reported_credits == Decimal("0.1")
    assert (charge.pricing, charge.credits) == (Pricing.REPORTED, 1)


def test_uncounted_tokens_are_unpriced_where_tokens_cost() -> None:
    line = {"service": "sora2", "model": "*", "from": "2026-01-01"}
    book = parse({"version": "v1", "prices": [{**line, "input_per_1000": "1"}]})

    assert book.charge(event()).pricing is Pricing.UNPRICED
    assert book.charge(event(input_tokens=1)).pricing is Pricing.PRICED


def test_the_row_names_the_request_it_belongs_to() -> None:
    found = event(request_id=str(PARENT), labels={"b": "2", "a": "1"})
    charge = parse({"version": "v1", "prices": []}).charge(found)
    record = UsageRecord(found, charge, Origin("usage-ingest", "local", "1"))
    row = dict(zip(COLUMNS, record.row(), strict=True))

    report = json.loads(row["metadata"])["report"]
    assert report == {"requestId": str(PARENT), "labels": {"a": "1", "b": "2"}}
    assert (row["usage_source"], row["status"]) == ("reported", 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "7"}, "reports[0].id: give a UUID"),
        ({"id": ""}, "reports[0].id: give a UUID"),
        ({"occurred_at": None}, "reports[0].occurred_at: give a time"),
        (
            {"occurred_at": NOW - OLDEST - timedelta(seconds=1)},
            "reports[0].occurred_at: at most 35 days ago",
        ),
        (
            {"occurred_at": NOW + AHEAD + timedelta(seconds=1)},
            "reports[0].occurred_at: at most 300 s ahead of this clock",
        ),
        ({"user_id": ""}, "reports[0].user_id: needed"),
        ({"service": ""}, "reports[0].service: needed"),
        (
            {"model": "m" * 129},
            "reports[0].model: at most 128 characters (given: 129)",
        ),
        (
            {"credits": "-1"},
            "reports[0].credits: give a decimal as text, such as 12 or 0.25",
        ),
        (
            {"credits": "1e3"},
            "reports[0].credits: give a decimal as text, such as 12 or 0.25",
        ),
        (
            {"input_tokens": 2**31},
            "reports[0].input_tokens: at most 2147483647",
        ),
        (
            {"input_tokens": 1, "cached_tokens": 2},
            "reports[0].cached_tokens: is a part of input_tokens, so can't be more",
        ),
        (
            {"reasoning_tokens": 1},
            "reports[0].reasoning_tokens: is a part of output_tokens, so can't be more",
        ),
        ({"request_id": "x"}, "reports[0].request_id: give a UUID, or leave it out"),
        (
            {"labels": {str(n): "" for n in range(17)}},
            "reports[0].labels: at most 16 (given: 17)",
        ),
        (
            {"labels": {"": "x"}},
            "reports[0].labels: names have 1 to 64 characters",
        ),
        (
            {"labels": {"x": "y" * 257}},
            "reports[0].labels: values have at most 256 characters",
        ),
    ],
)
def test_a_bad_field_is_named_with_what_it_should_be(
    changes: dict[str, Any], said: str
) -> None:
    assert problem(**changes) == said


def test_every_bad_field_is_named_up_to_twenty() -> None:
    bad = [a_report(id="x", user_id="") for _ in range(15)]
    with pytest.raises(BadReports) as raised:
        checked(payload(*bad), NOW)
    problems = str(raised.value).split("; ")

    assert problems[1] == "reports[0].user_id: needed"
    assert (len(problems), problems[-1]) == (21, "and 10 more")


@pytest.mark.parametrize("count", [0, MAX_REPORTS + 1])
def test_a_batch_has_one_to_a_thousand_reports(count: int) -> None:
    with pytest.raises(BadReports, match=f"reports: give 1 to 1000 .given: {count}."):
        checked(payload(*[a_report()] * count), NOW)


def test_the_largest_batch_is_taken() -> None:
    assert checked(payload(*[a_report()] * MAX_REPORTS), NOW) == MAX_REPORTS


def test_bytes_that_are_no_request_are_refused() -> None:
    with pytest.raises(BadReports, match="not a hubgate"):
        checked(b"\xff", NOW)
    with pytest.raises(DecodeError):
        list(read(b"\xff"))


def test_a_bad_report_does_not_hold_up_its_neighbours() -> None:
    """It can only be there if a rule was made stricter after it had been taken."""
    good, bad = a_report(), a_report(user_id="")
    found = list(read(payload(good, bad, good)))

    assert found[1] == Rejected("user_id: needed")
    assert [type(one) for one in found] == [UsageEvent, Rejected, UsageEvent]


def test_the_generated_code_is_what_the_protocol_says(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "protos", tmp_path], check=True, timeout=60)
    kept = Path(hubgate.__file__).parent / "usage" / "v1"
    made = {
        one.name: one.read_text()
        for one in (tmp_path / "hubgate" / "usage" / "v1").iterdir()
    }

    assert len(made) == 3
    assert {name: (kept / name).read_text() for name in made} == made
