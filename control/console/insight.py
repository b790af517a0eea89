"""What the API's analysis says: comparison, peaks, latency, growth, anomalies. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from control.console import figures
from control.console.charts import Chart, Series
from control.console.figures import NONE
from control.console.filters import Filters
from control.console.sections import Row, Section, Table, Tile, columns

Body = Mapping[str, Any]

PATH: Final = "/api/usage/analytics"
#: Of the tiles that show it: the figure's name.
_COMPARED: Final = {
    "Requests": "requests",
    "Tokens": "tokens",
    "Credits": "credits",
    "Errors": "errors",
}
_LATENCIES: Final = ("p50Ms", "p95Ms", "p99Ms")
_MOST_ANOMALIES: Final = 12
_GROWING: Final = ("requests", "tokens", "credits")


def compared(tiles: Sequence[Tile], body: Body) -> list[Tile]:
    """The tiles, with how each differs from the period before."""
    changes = body["comparison"]["change"]
    return [_compared(tile, changes[_COMPARED[tile.label]]) for tile in tiles]


def _compared(tile: Tile, change: Body) -> Tile:
    if change["percent"] is not None:
        than = f"{figures.change(change['percent'])} on the period before"
    elif change["absolute"]:
        than = "nothing in the period before"
    else:
        return tile
    return Tile(tile.label, tile.value, "; ".join(filter(None, (tile.note, than))))


def peaks(body: Body, chosen: Filters) -> Section:
    """The average day, hour by hour."""
    found = body["peakHours"]
    hours = found["byHourOfDay"]
    chart = Chart(
        key="peaks-chart",
        title="Requests in an average hour of the day",
        description=f"Hours of {chosen.zone.key}",
        labels=tuple(f"{one['hour']:02}:00" for one in hours),
        series=(Series("Requests", tuple(one["averageRequests"] for one in hours)),),
    )
    busiest = found["busiest"]
    notes = []
    if busiest is not None and busiest["requests"]:
        at = figures.instant(busiest["start"], chosen.zone)
        count = figures.whole(busiest["requests"])
        notes.append(f"The busiest hour began {at} and had {count} requests.")
    return Section(
        key="peaks",
        title="Peak hours",
        notes=notes,
        pictures=[columns(chart, chosen.width, "Hour")],
    )


def latency(body: Body, _: Filters) -> Section:
    """How long answers took, and how many failed."""
    headings = ("Requests", "Errors", "Half within", "95 % within", "99 % within")
    services = Table(
        "Services by requests",
        ("Service", *headings),
        tuple(_performance(one["service"], one) for one in body["byService"]),
    )
    routes = Table(
        "Routes by requests",
        ("Route", *headings),
        tuple(
            _performance(f"{one['service'] or NONE} / {one['route'] or NONE}", one)
            for one in body["byRoute"]
        ),
    )
    return Section(
        key="latency",
        title="Latency and errors",
        notes=[f"Latency is read {body['methods']['latency']}."],
        tables=[services, routes],
    )


def _performance(name: str | None, sums: Body) -> Row:
    times = (figures.milliseconds(sums[one]) for one in _LATENCIES)
    cells = (figures.whole(sums["requests"]), figures.percent(sums["errorRate"]))
    return Row(name or NONE, (*cells, *times))


def anomalies(body: Body, chosen: Filters) -> Section:
    """Hours that are far from what is usual, with the hours they are compared with."""
    found = body["anomalies"]
    rows = tuple(_anomaly(one, chosen) for one in found[:_MOST_ANOMALIES])
    notes = [f"The score is the {body['methods']['anomalies']}."]
    if len(found) > _MOST_ANOMALIES:
        notes.append(f"These are {_MOST_ANOMALIES} of {len(found)} that were found.")
    headings = ("Hour that began", "What", "Was", "Usual", "Score", "The weeks before")
    return Section(
        key="anomalies",
        title="Anomalies",
        notes=notes,
        tables=[Table("Unusual hours, the most unusual first", headings, rows)],
    )


def _anomaly(found: Body, chosen: Filters) -> Row:
    samples = ", ".join(map(figures.compact, found["samples"]))
    return Row(
        figures.instant(found["start"], chosen.zone),
        (
            found["metric"],
            figures.whole(found["value"]),
            figures.whole(found["median"]),
            f"{found['score']:+.1f}",
            samples,
        ),
    )


def outlook(body: Body, _: Filters) -> Section:
    """Where the line through the days leads."""
    found, methods = body["growth"], body["methods"]
    tables, notes = [], [f"Too few days for it: {methods['growth']}."]
    if found is not None:
        notes = [f"Growth: {methods['growth']}.", f"Peak: {methods['capacity']}."]
        tables = [_lines(found), _projections(found)]
    return Section(
        key="outlook", title="Growth and outlook", notes=notes, tables=tables
    )


def _lines(found: Body) -> Table:
    return Table(
        f"Growth over {found['days']} days",
        ("What", "A day", "A day in percent", "Fit"),
        tuple(_growth(name, found[name]) for name in _GROWING),
    )


def _projections(found: Body) -> Table:
    return Table(
        "If it goes on like this",
        ("In the next", "Requests", "Tokens", "Credits", "Requests a second at peak"),
        tuple(_projection(one) for one in found["projection"]),
    )


def _growth(name: str, line: Body) -> Row:
    cells = (
        f"{line['perDay']:+,.1f}",
        figures.change(line["percentPerDay"]),
        f"{line['fit']:.2f}",
    )
    return Row(name.capitalize(), cells)


def _projection(ahead: Body) -> Row:
    sums = (figures.compact(ahead[name]) for name in _GROWING)
    peak = figures.compact(ahead["peakRequestsPerSecond"])
    return Row(f"{ahead['days']} days", (*sums, peak))
