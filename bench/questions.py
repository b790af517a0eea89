"""What is asked of the sums of a ledger that `bench.generate` filled."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from control import analytics, summary
from control.analytics import AnalyticsQuery
from control.summary import SummaryQuery
from control.usage_totals import DIMENSIONS, Snapshot

LAST: Final = date(2026, 11, 20)
NOW: Final = datetime(2026, 11, 21, 0, 30, tzinfo=UTC).timestamp()
ZONES: Final = ("UTC", "Europe/Berlin", "Asia/Kolkata")
#: The one with most calls of all, one in twenty, and one of the busy ones.
HEAVIEST, HEAVY = "user-0", "user-17"
_RAW: Final = {
    "service,model": "SELECT service, model, count(*), sum(tokens), sum(credits) "
    "FROM usage_logs {where} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20",
    "userId,service": "SELECT user_id, service, count(*), sum(tokens), sum(credits) "
    "FROM usage_logs {where} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20",
    "service,day UTC": "SELECT service, date_trunc('day', created_at, 'UTC'), "
    "count(*), sum(tokens), sum(credits) FROM usage_logs {where} GROUP BY 1, 2",
    "analytics": "SELECT service, route, count(*), percentile_disc("
    "ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms) "
    "FROM usage_logs {where} GROUP BY 1, 2",
}


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` for figures of several; `raw`: the same as SQL over the rows, if told."""

    kind: str
    name: str
    key: object
    first: datetime
    end: datetime
    ask: Callable[[Snapshot], Awaitable[dict[str, Any]]]
    raw: str | None


def questions(days: int) -> list[Question]:
    """Of the last `days`; by hour of 30 of them, as 1,000 periods are the most."""
    start = LAST - timedelta(days=days - 1)
    hours = str(LAST - timedelta(days=min(days, 30) - 1))
    found = [
        _summary("two dimensions", ",".join(pair), start, groupBy=",".join(pair))
        for pair in itertools.combinations(DIMENSIONS, 2)
    ]
    for zone, one in itertools.product(ZONES, DIMENSIONS):
        kind = "userId by time" if one == "userId" else "one dimension by time"
        given = {"timeZone": zone}
        for unit in ("day", "week", "month"):
            by = f"{one},{unit}"
            found.append(
                _summary(f"{kind}, {zone}", f"{by} {zone}", start, groupBy=by, **given)
            )
        given |= {"groupBy": f"{one},hour", "startDate": hours, "limit": "10"}
        found.append(_summary(f"{kind}, {zone}", f"{one},hour {zone}", start, **given))
    edges = (datetime.combine(start, time(0, 17), UTC)).isoformat()
    found.append(
        _summary(
            "from 00:17", "from 00:17", start, groupBy="service,model", startDate=edges
        )
    )
    for zone in ZONES:
        name = "analytics" if zone == "UTC" else f"analytics {zone}"
        found.append(_analytics(name, start, None, timeZone=zone))
    recent = str(LAST - timedelta(days=29))
    found.append(_analytics("analytics, 30 days", start, None, startDate=recent))
    for user, zone in itertools.product((HEAVY, HEAVIEST), ("UTC", "Asia/Kolkata")):
        users = frozenset({user})
        name = f"analytics of {user} {zone}"
        found.append(_analytics(name, start, users, timeZone=zone))
    return found


def _summary(kind: str, name: str, start: date, **asked: str) -> Question:
    query = summary.parse_query(_range(start) | asked, NOW)
    return _question(
        kind,
        name,
        query,
        query.asked.start,
        lambda one: summary.summarize(one, query, None),
    )


def _analytics(
    name: str, start: date, users: frozenset[str] | None, **asked: str
) -> Question:
    query = analytics.parse_query(_range(start) | asked, NOW)
    kind = "analytics" if users is None else "analytics of one user"
    return _question(
        kind,
        name,
        (query, users),
        query.first,
        lambda one: analytics.analyse(one, query, users),
    )


def _range(start: date) -> dict[str, str]:
    return {"startDate": str(start), "endDate": str(LAST)}


def _question(
    kind: str,
    name: str,
    key: SummaryQuery | tuple[AnalyticsQuery, frozenset[str] | None],
    first: datetime,
    ask: Callable[[Snapshot], Awaitable[dict[str, Any]]],
) -> Question:
    query = key[0] if isinstance(key, tuple) else key
    raw = _RAW.get(name)
    if raw is not None:
        raw = raw.format(where=f"WHERE created_at >= '{query.asked.start}'")
    return Question(kind, name, key, first, query.asked.end, ask, raw)
