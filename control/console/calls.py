"""Calls one by one, as the console lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from control.console import figures
from control.console.api import Found, Refusal
from control.console.sections import Call, Calls
from control.parameters import Reader
from control.periods import zone_of

PATH: Final = "/api/usage/logs"
PAGE: Final = 25
_ZONE: Final = "timeZone"
_USERS: Final = "users"
_FAILED: Final = 400


def read(
    answer: Found | Refusal,
    asked: Mapping[str, str],
    zone: ZoneInfo,
    *,
    with_users: bool,
) -> Calls:
    """A page of them, and how to ask for the next."""
    if isinstance(answer, Refusal):
        return Calls(refusal=answer)
    rows = tuple(
        _call(one, zone, with_users=with_users) for one in answer.body["items"]
    )
    cursor = answer.body["nextCursor"]
    more = {**asked, "cursor": cursor, _ZONE: zone.key, _USERS: str(int(with_users))}
    return Calls(rows, urlencode(more) if cursor else "")


@dataclass(frozen=True, slots=True)
class Older:
    """A further page: what to ask the API for, and how to show it."""

    asked: dict[str, str]
    zone: ZoneInfo
    with_users: bool


def older(parameters: Mapping[str, str]) -> Older:
    """The page that a button asks for; raises BadParameters: not one of ours."""
    reader = Reader(parameters, tuple(parameters))
    zone = reader.read(_ZONE, zone_of) or ZoneInfo("UTC")
    with_users = reader.choice(_USERS, ("0", "1")) == "1"
    reader.done()
    own = (_ZONE, _USERS)
    asked = {name: value for name, value in parameters.items() if name not in own}
    return Older(asked, zone, with_users)


def _call(row: Mapping[str, Any], zone: ZoneInfo, *, with_users: bool) -> Call:
    status = row["status"]
    return Call(
        at=figures.instant(row["createdAt"], zone),
        user=(row["userId"] or figures.NONE) if with_users else None,
        service=row["service"] or figures.NONE,
        model=row["model"] or figures.NONE,
        status=str(status or row["outcome"]),
        duration=figures.milliseconds(row["durationMs"]),
        tokens=figures.whole(row["tokens"]),
        credits=figures.whole(row["credits"]),
        is_failed=not status or status >= _FAILED,
    )
