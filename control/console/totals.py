"""Sums of the API as tiles, charts and tables. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from control.console import charts, figures
from control.console.charts import Chart, Series
from control.console.figures import NONE
from control.console.filters import MEASURES, Filters
from control.console.sections import (
    Picture,
    Row,
    Section,
    Table,
    Tile,
    columns,
    picture,
)

Sums = Mapping[str, Any]

PATH: Final = "/api/usage/summary"
#: So many groups have a colour of their own; the others are one.
COLOURED: Final = 5
LISTED: Final = 10
_OTHERS: Final = "all others"
_FIGURES: Final = ("Requests", "Tokens", "Credits", "Errors")


def tiles(totals: Sums) -> list[Tile]:
    """What it comes to."""
    corrected = totals["adjustments"]["credits"]
    note = f"of these {figures.whole(corrected)} by corrections" if corrected else ""
    return [
        Tile("Requests", figures.whole(totals["requests"])),
        Tile(
            "Tokens",
            figures.whole(totals["tokens"]),
            f"{figures.compact(totals['inputTokens'])} in,"
            f" {figures.compact(totals['outputTokens'])} out",
        ),
        Tile("Credits", figures.whole(totals["credits"]), note),
        Tile(
            "Errors",
            figures.percent(totals["errorRate"]),
            f"{figures.whole(totals['errors'])} requests",
        ),
    ]


def over_time(answer: Sums, chosen: Filters) -> Section:
    """The chosen measure by period, a colour for each of the largest services."""
    what = MEASURES[chosen.measure]
    title = f"{what} by {chosen.granularity}"
    found = [
        Series(one["service"] or NONE, _values(one["periods"], chosen.measure))
        for one in answer["items"]
    ]
    others = answer["other"]
    if _is_some(others):
        values = _values(others["periods"], chosen.measure)
        found.append(Series(_OTHERS, values, is_rest=True))
    found = [one for one in found if any(one.values)]
    # Without any service the scale and the table still say that there was nothing.
    found = found or [Series(what, _values(answer["periods"], chosen.measure))]
    total = figures.whole(answer["totals"][chosen.measure])
    chart = Chart(
        key="over-time-chart",
        title=title,
        description=f"{total} in all. {_largest(answer['periods'], chosen)}",
        labels=_labels(answer["periods"], chosen, is_short=True),
        series=tuple(found),
    )
    drawn = columns(chart, chosen.width, chosen.granularity.capitalize())
    return Section(
        key="over-time",
        title="Over time",
        pictures=[_with_long_names(drawn, answer["periods"], chosen)],
    )


def error_rate(answer: Sums, chosen: Filters) -> Section:
    """The share of failed requests by period."""
    values = tuple((one["errorRate"] or 0) * 100 for one in answer["periods"])
    chart = Chart(
        key="errors-chart",
        title=f"Failed requests in percent by {chosen.granularity}",
        description=f"{figures.percent(answer['totals']['errorRate'])} in all",
        labels=_labels(answer["periods"], chosen, is_short=True),
        series=(Series("Failed", values),),
    )
    drawn = picture(
        chart, charts.line(chart, chosen.width), chosen.granularity.capitalize()
    )
    names = _labels(answer["periods"], chosen, is_short=False)
    rows = tuple(
        Row(name, (figures.percent(one["errorRate"]), figures.whole(one["errors"])))
        for name, one in zip(names, answer["periods"], strict=True)
    )
    headings = (chosen.granularity.capitalize(), "Failed", "Requests that failed")
    table = Table(chart.title, headings, rows)
    return Section(
        key="errors",
        title="Errors",
        pictures=[Picture(drawn.svg, (), table)],
    )


def ranking(answer: Sums, title: str, dimension: str, chosen: Filters) -> Table:
    """Groups by what they took, the largest first, and what the others took."""
    what = MEASURES[chosen.measure]
    rows = [(one[dimension] or NONE, one) for one in answer["items"]]
    others = answer["other"]
    if _is_some(others):
        count = others["groups"]
        name = _OTHERS if count is None else f"{figures.whole(count)} more"
        rows.append((name, others))
    whole = answer["totals"][chosen.measure]
    return Table(
        f"{title} by {what.lower()}, the largest first",
        ("Name", *_FIGURES),
        tuple(
            Row(str(name), _figures(one), _share(one[chosen.measure], whole))
            for name, one in rows
        ),
    )


def _is_some(others: Sums) -> bool:
    # How many groups there are is not always counted.
    return bool(others["groups"] or others["requests"])


def _figures(sums: Sums) -> tuple[str, ...]:
    return (
        figures.whole(sums["requests"]),
        figures.compact(sums["tokens"]),
        figures.compact(sums["credits"]),
        figures.percent(sums["errorRate"]),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _values(periods: Sequence[Sums], measure: str) -> tuple[float, ...]:
    # Corrections can make a sum less than nothing; no column is.
    return tuple(max(0, one[measure]) for one in periods)


def _labels(
    periods: Sequence[Sums], chosen: Filters, *, is_short: bool
) -> tuple[str, ...]:
    return tuple(
        figures.period(one["start"], chosen.granularity, chosen.zone, is_short=is_short)
        for one in periods
    )


def _largest(periods: Sequence[Sums], chosen: Filters) -> str:
    most = max(periods, key=lambda one: one[chosen.measure], default=None)
    if most is None or not most[chosen.measure]:
        return "There was nothing."
    name = figures.period(
        most["start"], chosen.granularity, chosen.zone, is_short=False
    )
    return f"The most was {figures.whole(most[chosen.measure])}: {name}."


def _with_long_names(
    drawn: Picture, periods: Sequence[Sums], chosen: Filters
) -> Picture:
    names = _labels(periods, chosen, is_short=False)
    rows = tuple(
        Row(name, row.cells, row.share)
        for name, row in zip(names, drawn.table.rows, strict=True)
    )
    table = Table(drawn.table.caption, drawn.table.headings, rows)
    return Picture(drawn.svg, drawn.legend, table)
