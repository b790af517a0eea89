"""Charts as SVG: numbers become shapes here, colours are the style sheet's. Pure.

Each chart has a title and a description for those who can't see it; whoever shows it
puts the same figures into a table beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from control.console.figures import compact

#: Colours that the style sheet has; what comes after them shares the last.
COLOURS: Final = 6
NARROWEST: Final = 280
WIDEST: Final = 1400

_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 24
_HEIGHT: Final = 220
_TICKS: Final = 4
_LABEL_PX: Final = 64
_GAP_SHARE: Final = 0.2
#: Below it there is nothing to see.
_LEAST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each label of its chart."""

    name: str
    values: tuple[float, ...]
    is_rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """`key` is unique on the page."""

    key: str
    title: str
    description: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]

    def total(self, index: int) -> float:
        return sum(one.values[index] for one in self.series)

    def colour(self, index: int) -> str:
        """The class of a series: the rest is grey, whatever its place."""
        if self.series[index].is_rest:
            return "rest"
        return f"c{min(index, COLOURS - 1)}"


def scale(most: float, ticks: int = _TICKS) -> list[float]:
    """Round values from 0 to the first that is not below `most`."""
    if most < _LEAST:
        return [0.0, 1.0]
    rough = most / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough)
    return [step * n for n in range(math.ceil(most / step - 1e-9) + 1)]


def columns(chart: Chart, width: int) -> str:
    """Stacked columns, one for each label."""
    width = max(NARROWEST, min(width, WIDEST))
    svg = _picture(chart, width, _HEIGHT)
    values = scale(max(map(chart.total, range(len(chart.labels))), default=0))
    plot = _Plot(width, values[-1], len(chart.labels))
    _grid(svg, plot, values)
    _axis(svg, plot, chart.labels)
    for index, label in enumerate(chart.labels):
        below = 0.0
        for number, series in enumerate(chart.series):
            value = series.values[index]
            if value <= 0:
                continue
            top, bottom = plot.y(below + value), plot.y(below)
            shape = _rectangle(
                svg, plot.x(index), top, plot.column, max(bottom - top, 0.5)
            )
            shape.set("class", chart.colour(number))
            SubElement(shape, "title").text = f"{label}: {series.name} {compact(value)}"
            below += value
    return tostring(svg, encoding="unicode")


def line(chart: Chart, width: int) -> str:
    """The first series as a line."""
    width = max(NARROWEST, min(width, WIDEST))
    svg = _picture(chart, width, _HEIGHT)
    series = chart.series[0].values
    values = scale(max(series, default=0))
    plot = _Plot(width, values[-1], len(chart.labels))
    _grid(svg, plot, values)
    _axis(svg, plot, chart.labels)
    middle = plot.column / 2
    points = [
        f"{_px(plot.x(index) + middle)},{_px(plot.y(value))}"
        for index, value in enumerate(series)
    ]
    SubElement(svg, "polyline", {"class": "line", "points": " ".join(points)})
    return tostring(svg, encoding="unicode")


def bar(share: float) -> str:
    """A share of a whole, beside its figure in a table: says nothing of its own."""
    width = 100
    svg = Element(
        "svg",
        {
            "class": "bar",
            "viewBox": f"0 0 {width} 8",
            "preserveAspectRatio": "none",
            "aria-hidden": "true",
            "focusable": "false",
        },
    )
    _rectangle(svg, 0, 0, width, 8).set("class", "track")
    filled = max(0.0, min(share, 1.0)) * width
    _rectangle(svg, 0, 0, filled, 8).set("class", "c0")
    return tostring(svg, encoding="unicode")


@dataclass(frozen=True, slots=True)
class _Plot:
    width: int
    most: float
    count: int

    @property
    def step(self) -> float:
        return (self.width - _LEFT - _RIGHT) / max(self.count, 1)

    @property
    def column(self) -> float:
        return max(self.step * (1 - _GAP_SHARE), 0.5)

    def x(self, index: int) -> float:
        return _LEFT + index * self.step + self.step * _GAP_SHARE / 2

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / self.most)


def _picture(chart: Chart, width: int, height: int) -> Element:
    title, description = f"{chart.key}-title", f"{chart.key}-description"
    svg = Element(
        "svg",
        {
            "class": "chart",
            "role": "img",
            "aria-labelledby": f"{title} {description}",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
        },
    )
    SubElement(svg, "title", {"id": title}).text = chart.title
    SubElement(svg, "desc", {"id": description}).text = chart.description
    return svg


def _grid(svg: Element, plot: _Plot, values: Sequence[float]) -> None:
    for value in values:
        y = _px(plot.y(value))
        x1, x2 = str(_LEFT), str(plot.width - _RIGHT)
        SubElement(svg, "line", {"class": "grid", "x1": x1, "x2": x2, "y1": y, "y2": y})
        _text(svg, compact(value), _LEFT - 6, plot.y(value) + 4, "end")


def _axis(svg: Element, plot: _Plot, labels: Sequence[str]) -> None:
    every = max(1, math.ceil(_LABEL_PX / plot.step))
    for index in range(0, len(labels), every):
        middle = plot.x(index) + plot.column / 2
        # The last must not run over the edge.
        middle = min(middle, plot.width - _RIGHT - _LABEL_PX / 3)
        _text(svg, labels[index], middle, _HEIGHT - 8, "middle")


def _rectangle(
    parent: Element, x: float, y: float, width: float, height: float
) -> Element:
    named = {"x": x, "y": y, "width": width, "height": height}
    return SubElement(
        parent, "rect", {name: _px(value) for name, value in named.items()}
    )


def _text(svg: Element, text: str, x: float, y: float, anchor: str) -> None:
    attributes = {"x": _px(x), "y": _px(y), "text-anchor": anchor}
    SubElement(svg, "text", attributes).text = text


def _px(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
