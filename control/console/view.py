"""One look at usage: what is asked of the API for it, all at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from control.access import Caller
from control.console import calls as call_list
from control.console import completeness, figures, render, standing, totals
from control.console.api import Found, Refusal, UsageApi
from control.console.filters import FIELDS, Filters
from control.console.sections import Section, View
from runtime.contracts import ROLE_MANAGER

Answer = Found | Refusal

#: From here on it is not the reader's filters that are in the way.
_SERVER_ERROR = 500


async def usage(api: UsageApi, caller: Caller, chosen: Filters) -> str | Refusal:
    """The view, as HTML; the API's refusal when it does not take the filters."""
    asked = chosen.asked()
    listed = {**asked, "limit": str(call_list.PAGE)}
    zone = {"timeZone": chosen.zone.key}
    sees_others = caller.is_admin or caller.role == ROLE_MANAGER
    by_service, by_model, calls, me, by_user, nodes = await asyncio.gather(
        api.get(totals.PATH, _by("service", chosen, totals.COLOURED, over_time=True)),
        api.get(totals.PATH, _by("model", chosen, totals.LISTED)),
        api.get(call_list.PATH, listed),
        api.get(standing.PATH, {**zone, "recent": "0"}),
        _when(sees_others, api, totals.PATH, _by("userId", chosen, totals.LISTED)),
        _when(caller.is_admin, api, completeness.PATH, {}),
    )
    refused = _refused(by_service, calls)
    if refused is not None:
        return refused
    view = View(
        title="All usage" if caller.is_admin else "Your usage",
        range=_range(chosen),
        complete=_complete(by_service, calls, chosen=chosen),
        sees_others=sees_others,
        tiles=totals.tiles(by_service.body["totals"])
        if isinstance(by_service, Found)
        else (),
        wide=[
            _section(
                "over-time",
                "Over time",
                by_service,
                lambda body: totals.over_time(body, chosen),
            )
        ],
        narrow=[
            _ranking("services", "Services", by_service, "service", chosen),
            _ranking("models", "Models", by_model, "model", chosen),
            *(_ranking("users", "Users", one, "userId", chosen) for one in by_user),
        ],
        below=[
            _section(
                "errors",
                "Errors",
                by_service,
                lambda body: totals.error_rate(body, chosen),
            ),
            *(
                _section(
                    completeness.KEY,
                    completeness.TITLE,
                    one,
                    lambda body: completeness.read(body, chosen.zone),
                )
                for one in nodes
            ),
        ],
        limits=standing.read(me),
        calls=call_list.read(calls, listed, chosen.zone, with_users=sees_others),
        export_query=urlencode(asked),
        services=_names(by_service, "service"),
        models=_names(by_model, "model"),
        users=[name for one in by_user for name in _names(one, "userId")],
    )
    return render.page(view, chosen)


async def calls(api: UsageApi, parameters: Mapping[str, str]) -> str | Refusal:
    """Further calls, as rows."""
    page = call_list.older(parameters)
    found = await api.get(call_list.PATH, page.asked)
    if isinstance(found, Refusal):
        return found
    rows = call_list.read(found, page.asked, page.zone, with_users=page.with_users)
    return render.calls(rows)


async def _when(
    is_for_them: bool,  # noqa: FBT001 - read where it is called
    api: UsageApi,
    path: str,
    parameters: Mapping[str, str],
) -> Sequence[Answer]:
    """The answer, or nothing for who would be refused it."""
    return [await api.get(path, parameters)] if is_for_them else []


def _by(
    dimension: str, chosen: Filters, limit: int, *, over_time: bool = False
) -> dict[str, str]:
    """Parameters of the API: the largest groups, and all periods if wanted."""
    return chosen.asked(
        groupBy=f"{dimension},{chosen.granularity}" if over_time else dimension,
        timeZone=chosen.zone.key,
        sort=chosen.measure,
        limit=str(limit),
    )


def _refused(*answers: Answer) -> Refusal | None:
    """The refusal that the reader can do something about, or that leaves nothing."""
    refusals = [one for one in answers if isinstance(one, Refusal)]
    for one in refusals:
        if one.status < _SERVER_ERROR:
            problems = tuple(
                replace(problem, field=FIELDS.get(problem.field, problem.field))
                for problem in one.problems
            )
            return replace(one, problems=problems)
    return refusals[0] if len(refusals) == len(answers) else None


def _section(
    key: str, title: str, answer: Answer, read: Callable[[dict[str, Any]], Section]
) -> Section:
    if isinstance(answer, Refusal):
        return Section(key=key, title=title, refusal=answer)
    return read(answer.body)


def _ranking(
    key: str, title: str, answer: Answer, dimension: str, chosen: Filters
) -> Section:
    def read(body: dict[str, Any]) -> Section:
        table = totals.ranking(body, title, dimension, chosen)
        return Section(key=key, title=title, tables=[table])

    return _section(key, title, answer, read)


def _names(answer: Answer, dimension: str) -> Sequence[str]:
    if isinstance(answer, Refusal):
        return ()
    return [one[dimension] for one in answer.body["items"] if one[dimension]]


def _range(chosen: Filters) -> str:
    start = figures.instant(chosen.start.isoformat(), chosen.zone)
    end = figures.instant(chosen.end.isoformat(), chosen.zone)
    return f"From {start} to {end}, {chosen.zone.key}"


def _complete(*answers: Answer, chosen: Filters) -> str:
    """What holds for all of them: the earliest."""
    instants = [
        one.body["completeThrough"] for one in answers if isinstance(one, Found)
    ]
    if None in instants or not instants:
        return "No gateway has said yet how complete this is"
    return f"Complete up to {figures.instant(min(instants), chosen.zone)}"
