"""One look at usage: what is asked of the API for it, all at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from control.access import Caller
from control.console import calls as call_list
from control.console import completeness, figures, insight, render, standing, totals
from control.console.api import Found, Refusal, UsageApi
from control.console.filters import FIELDS, Filters
from control.console.sections import Section, Tile, View
from runtime.contracts import ROLE_MANAGER

Answer = Found | Refusal
#: Each under the name of its question; those that are not for the reader are not there.
Answers = Mapping[str, Answer]
Read = Callable[[dict[str, Any], Filters], Section]

#: From here on it is not the reader's filters that are in the way.
_SERVER_ERROR = 500
#: Sections that all may see, and those for who sees the usage of others, too.
_OWN = (("errors", "Errors", "services", totals.error_rate),)
_OF_OTHERS = (
    ("latency", "Latency and errors", "analysis", insight.latency),
    ("anomalies", "Anomalies", "analysis", insight.anomalies),
    ("peaks", "Peak hours", "analysis", insight.peaks),
    ("outlook", "Growth and outlook", "analysis", insight.outlook),
    ("completeness", "Completeness", "nodes", completeness.read),
)


async def usage(api: UsageApi, caller: Caller, chosen: Filters) -> str | Refusal:
    """The view, as HTML; the API's refusal when it does not take the filters."""
    sees_others = caller.is_admin or caller.role == ROLE_MANAGER
    questions = _questions(chosen, caller, sees_others=sees_others)
    found = await asyncio.gather(*(api.get(*one) for one in questions.values()))
    answers = dict(zip(questions, found, strict=True))
    refused = _refused(answers["services"], answers["calls"])
    if refused is not None:
        return refused
    view = View(
        title="All usage" if caller.is_admin else "Your usage",
        range=_range(chosen),
        complete=_complete(found, chosen),
        sees_others=sees_others,
        tiles=_tiles(answers),
        wide=_sections(
            answers, chosen, ("over-time", "Over time", "services", totals.over_time)
        ),
        narrow=_rankings(answers, chosen),
        below=_sections(answers, chosen, *_OWN, *(_OF_OTHERS if sees_others else ())),
        limits=standing.read(answers["me"]),
        calls=call_list.read(
            *(answers["calls"], questions["calls"][1], chosen.zone),
            with_users=sees_others,
        ),
        export_query=urlencode(chosen.asked()),
        services=_names(answers, "services", "service"),
        models=_names(answers, "models", "model"),
        users=_names(answers, "users", "userId"),
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


def _questions(
    chosen: Filters, caller: Caller, *, sees_others: bool
) -> dict[str, tuple[str, dict[str, str]]]:
    """Paths and parameters of the API."""
    zone = {"timeZone": chosen.zone.key}
    sums = {**zone, "sort": chosen.measure}
    largest = {**sums, "limit": str(totals.LISTED)}
    by_period = f"service,{chosen.granularity}"
    questions = {
        "services": (
            totals.PATH,
            chosen.asked(**sums, groupBy=by_period, limit=str(totals.COLOURED)),
        ),
        "models": (totals.PATH, chosen.asked(**largest, groupBy="model")),
        "analysis": (insight.PATH, chosen.asked(**sums)),
        "calls": (call_list.PATH, chosen.asked(limit=str(call_list.PAGE))),
        "me": (standing.PATH, {**zone, "recent": "0"}),
    }
    if sees_others:
        questions["users"] = totals.PATH, chosen.asked(**largest, groupBy="userId")
    if caller.is_admin:
        questions["nodes"] = completeness.PATH, {}
    return questions


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


def _tiles(answers: Answers) -> Sequence[Tile]:
    sums, analysis = answers["services"], answers["analysis"]
    if isinstance(sums, Refusal):
        return ()
    tiles = totals.tiles(sums.body["totals"])
    if isinstance(analysis, Refusal):
        return tiles
    return insight.compared(tiles, analysis.body)


def _sections(
    answers: Answers, chosen: Filters, *wanted: tuple[str, str, str, Read]
) -> list[Section]:
    """Those whose answer there is, or the reason why there is none."""
    found = []
    for key, title, name, read in wanted:
        match answers.get(name):
            case Refusal() as refusal:
                found.append(Section(key=key, title=title, refusal=refusal))
            case Found(body):
                found.append(read(body, chosen))
            case None:
                pass  # not for this reader
    return found


def _rankings(answers: Answers, chosen: Filters) -> list[Section]:
    def ranking(title: str, dimension: str) -> Read:
        def read(body: dict[str, Any], chosen: Filters) -> Section:
            table = totals.ranking(body, title, dimension, chosen)
            return Section(key=title.lower(), title=title, tables=[table])

        return read

    return _sections(
        answers,
        chosen,
        ("services", "Services", "services", ranking("Services", "service")),
        ("models", "Models", "models", ranking("Models", "model")),
        ("users", "Users", "users", ranking("Users", "userId")),
    )


def _names(answers: Answers, name: str, dimension: str) -> Sequence[str]:
    answer = answers.get(name)
    if not isinstance(answer, Found):
        return ()
    return [one[dimension] for one in answer.body["items"] if one[dimension]]


def _range(chosen: Filters) -> str:
    start = figures.instant(chosen.start.isoformat(), chosen.zone)
    end = figures.instant(chosen.end.isoformat(), chosen.zone)
    return f"From {start} to {end}, {chosen.zone.key}"


def _complete(answers: Sequence[Answer], chosen: Filters) -> str:
    """What holds for all of them: the earliest."""
    instants = [
        one.body["completeThrough"] for one in answers if isinstance(one, Found)
    ]
    if None in instants or not instants:
        return "No gateway has said yet how complete this is"
    return f"Complete up to {figures.instant(min(instants), chosen.zone)}"
