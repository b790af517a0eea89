"""Usage that trusted services report (protos/hubgate/usage/v1) -> usage events. Pure.

A report is checked before it is taken, with every bad field named, and read again when
it is loaded. Its id is the row's id: the same report any number of times is one row.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from hubgate.usage.v1.usage_pb2 import ReportUsageRequest, UsageReport
from runtime.contracts import Outcome, UsageSource
from usage_sink.events import Rejected, UsageEvent, decimal_of
from usage_sink.tokens import Usage, total_of
from usage_sink.values import INT4_MAX, clean

MAX_REPORTS: Final = 1000
#: Days that may be archived are closed; a clock may be a little ahead.
OLDEST: Final = timedelta(days=35)
AHEAD: Final = timedelta(minutes=5)

#: Field -> characters that it may have at most.
_TEXTS: Final = {
    "user_id": 256,
    "role": 64,
    "service": 64,
    "model": 128,
    "session_id": 128,
    "conversation_id": 128,
}
_NEEDED: Final = ("user_id", "service")
_COUNTS: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_PARTS: Final = (
    ("cached_tokens", "input_tokens"),
    ("reasoning_tokens", "output_tokens"),
)
_MAX_LABELS: Final = 16
_MAX_LABEL_NAME: Final = 64
_MAX_LABEL_VALUE: Final = 256
_MAX_PROBLEMS: Final = 20


class BadReports(ValueError):
    """The batch is refused as a whole; the message names every bad field."""


def checked(payload: bytes, now: datetime) -> int:
    """How many reports the bytes of a ReportUsageRequest hold, all of them good.

    Raises:
        BadReports: with the field and what it should be, for the first twenty.
    """
    try:
        request = ReportUsageRequest.FromString(payload)
    except DecodeError:
        raise BadReports("not a hubgate.usage.v1.ReportUsageRequest") from None
    count = len(request.reports)
    if not 0 < count <= MAX_REPORTS:
        raise BadReports(f"reports: give 1 to {MAX_REPORTS} (given: {count})")
    problems = [
        f"reports[{place}].{problem}"
        for place, report in enumerate(request.reports)
        for problem in (*_problems(report), *_untimely(report, now))
    ]
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        tail = [f"and {more} more"] if more > 0 else []
        raise BadReports("; ".join([*problems[:_MAX_PROBLEMS], *tail]))
    return count


def read(payload: bytes) -> Iterator[UsageEvent | Rejected]:
    """The events of a ReportUsageRequest.

    Raises:
        DecodeError: the bytes are not one.
    """
    for report in ReportUsageRequest.FromString(payload).reports:
        problems = list(_problems(report))
        yield Rejected("; ".join(problems)) if problems else _event(report)


def _event(report: UsageReport) -> UsageEvent:
    return UsageEvent(
        id=UUID(report.id),
        created_at=_instant(report.occurred_at),
        service=clean(report.service),
        model=clean(report.model) or None,
        is_ai=True,
        usage=_usage(report),
        reported_credits=decimal_of(report.credits) if report.credits else None,
        user_id=clean(report.user_id),
        role=clean(report.role) or None,
        # It was no request of its own.
        route=None,
        method=None,
        endpoint=None,
        status=0,
        outcome=Outcome.OK,
        reason=None,
        duration_ms=0,
        bytes_received=0,
        bytes_sent=0,
        session_id=clean(report.session_id) or None,
        conversation_id=clean(report.conversation_id) or None,
        adjusted=(),
        parent_id=UUID(report.request_id) if report.request_id else None,
        labels=tuple(
            sorted((clean(name), clean(text)) for name, text in report.labels.items())
        ),
    )


def _usage(report: UsageReport) -> Usage:
    input_, output, cached, reasoning = (
        getattr(report, name) if report.HasField(name) else None for name in _COUNTS
    )
    total = total_of(input_, output)
    return Usage(UsageSource.REPORTED, total, input_, output, cached, reasoning)


def _instant(stamp: Timestamp) -> datetime:
    """To the microsecond; what is finer is cut off."""
    whole = datetime.fromtimestamp(stamp.seconds, UTC)
    return whole.replace(microsecond=stamp.nanos // 1000)


def _problems(report: UsageReport) -> Iterator[str]:
    if not _is_uuid(report.id):
        yield "id: give a UUID"
    if report.request_id and not _is_uuid(report.request_id):
        yield "request_id: give a UUID, or leave it out"
    if not report.HasField("occurred_at") or not _is_time(report.occurred_at):
        yield "occurred_at: give a time"
    for name, limit in _TEXTS.items():
        length = len(getattr(report, name))
        if length > limit:
            yield f"{name}: at most {limit} characters (given: {length})"
        elif not length and name in _NEEDED:
            yield f"{name}: needed"
    if report.credits and decimal_of(report.credits) is None:
        yield "credits: give a decimal as text, such as 12 or 0.25"
    yield from _bad_counts(report)
    yield from _bad_labels(report)


def _bad_counts(report: UsageReport) -> Iterator[str]:
    for name in _COUNTS:
        if getattr(report, name) > INT4_MAX:
            yield f"{name}: at most {INT4_MAX}"
    for part, whole in _PARTS:
        if report.HasField(part) and getattr(report, part) > getattr(report, whole):
            yield f"{part}: is a part of {whole}, so can't be more"


def _bad_labels(report: UsageReport) -> Iterator[str]:
    if len(report.labels) > _MAX_LABELS:
        yield f"labels: at most {_MAX_LABELS} (given: {len(report.labels)})"
    for name, text in report.labels.items():
        if not 0 < len(name) <= _MAX_LABEL_NAME:
            yield f"labels: names have 1 to {_MAX_LABEL_NAME} characters"
        if len(text) > _MAX_LABEL_VALUE:
            yield f"labels: values have at most {_MAX_LABEL_VALUE} characters"


def _untimely(report: UsageReport, now: datetime) -> Iterator[str]:
    if not _is_time(report.occurred_at):
        return
    at = _instant(report.occurred_at)
    if at < now - OLDEST:
        yield f"occurred_at: at most {OLDEST.days} days ago"
    if at > now + AHEAD:
        yield f"occurred_at: at most {AHEAD.seconds} s ahead of this clock"


#: Timestamp's own range: the years 1 to 9999; nobody used anything before 1970.
_LAST_SECOND: Final = 253_402_300_799
_NANOS: Final = 1_000_000_000


def _is_time(stamp: Timestamp) -> bool:
    return 0 < stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < _NANOS


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
