"""The caller's own limits and credits. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from control.console import figures
from control.console.api import Found, Refusal
from control.console.sections import Limits, Meter

PATH: Final = "/api/usage/me"
#: The admin token is nobody's in particular: there is nothing to show.
_NOBODY: Final = 403


def read(answer: Found | Refusal) -> Limits | None:
    """None: who asks has no standing of their own."""
    if isinstance(answer, Refusal):
        return None if answer.status == _NOBODY else Limits(refusal=answer)
    body = answer.body
    meters = tuple(
        Meter(_label(one), one["remaining"], one["limit"])
        for one in body["limits"]
        if one["remaining"] is not None
    )
    return Limits(meters, tuple(_notes(body)))


def _notes(body: Mapping[str, Any]) -> list[str]:
    notes = []
    if body["isUnlimited"]:
        notes.append("No limit applies to you.")
    elif body["limitsReason"] is not None:
        notes += [f"{_name(one)}; {body['limitsReason']}" for one in body["limits"]]
    used = figures.whole(body["used"]["credits"])
    notes.append(f"This month you have used {used} credits.")
    if body["remainingCredits"] is None:
        reason = body["remainingCreditsReason"]
        notes.append(f"How many credits are left is not known: {reason}.")
    else:
        left = figures.whole(body["remainingCredits"])
        notes.append(f"You have {left} credits left.")
    return notes


def _name(limit: Mapping[str, Any]) -> str:
    where = "" if limit["route"] is None else f" on {limit['route']}"
    amount = figures.whole(limit["limit"])
    return f"{amount} {limit['unit']} per {limit['per']}{where}"


def _label(limit: Mapping[str, Any]) -> str:
    left = figures.whole(limit["remaining"])
    reset = f", all of them again in {limit['reset']} s" if limit["reset"] else ""
    return f"{left} of {_name(limit)} left{reset}"
