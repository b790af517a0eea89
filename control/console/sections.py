"""What a view is made of, before it is markup. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from control.console import charts
from control.console.api import Refusal
from control.console.charts import Chart
from control.console.figures import whole


@dataclass(frozen=True, slots=True)
class Row:
    """`share` of one, when the table has bars."""

    name: str
    cells: tuple[str, ...]
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The first heading is that of the names."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def has_shares(self) -> bool:
        return any(row.share is not None for row in self.rows)


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart and, for who can't see it, its figures."""

    svg: str
    legend: tuple[tuple[str, str], ...]
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`key` is its id on the page; `refusal` says why there is nothing in it."""

    key: str
    title: str
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure; `note` compares it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Meter:
    """What is left of a limit."""

    label: str
    left: float
    most: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The caller's own."""

    meters: tuple[Meter, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`user` is None where all are the reader's own."""

    at: str
    user: str | None
    service: str
    model: str
    status: str
    duration: str
    tokens: str
    credits: str
    is_failed: bool


@dataclass(frozen=True, slots=True)
class Calls:
    """`more` asks for those before; empty: there are none."""

    rows: tuple[Call, ...] = ()
    more: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The whole page below its heading."""

    title: str
    range: str
    complete: str
    sees_others: bool
    tiles: Sequence[Tile]
    wide: Sequence[Section]
    narrow: Sequence[Section]
    below: Sequence[Section]
    limits: Limits | None
    calls: Calls
    export_query: str
    services: Sequence[str] = ()
    models: Sequence[str] = ()
    users: Sequence[str] = field(default=())

    @property
    def jump(self) -> list[Section]:
        return [*self.wide, *self.narrow, *self.below]


#: The period's column and at most these many more fit on a phone's table.
_ALL: Final = "All"


def picture(chart: Chart, svg: str, unit: str) -> Picture:
    """A stacked chart, its legend, and its figures by label."""
    names = tuple(one.name for one in chart.series)
    legend = tuple((name, chart.colour(index)) for index, name in enumerate(names))
    totals = (_ALL,) if len(names) > 1 else ()
    rows = tuple(
        Row(label, tuple(map(whole, _cells(chart, index))))
        for index, label in enumerate(chart.labels)
    )
    return Picture(svg, legend, Table(chart.title, (unit, *names, *totals), rows))


def _cells(chart: Chart, index: int) -> list[float]:
    values = [one.values[index] for one in chart.series]
    return [*values, sum(values)] if len(values) > 1 else values


def columns(chart: Chart, width: int, unit: str) -> Picture:
    return picture(chart, charts.columns(chart, width), unit)
