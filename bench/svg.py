"""Pictures of figures, small enough to need no library."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Final

_WIDTH: Final = 760
_LABEL: Final = 170
_ROW: Final = 26
_HEAD: Final = 34
_HEIGHT: Final = 320
_MARGIN: Final = 64
_OURS: Final = "#1f6feb"
_OTHERS: Final = "#9aa4b2"
_COLOURS: Final = (_OURS, "#d1242f", "#1a7f37", "#9a6700", "#8250df")
_TEXT: Final = 'font-family="sans-serif" font-size="12" fill="#24292f"'

_RECT: Final = '<rect x="{x}" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>'
_AXES: Final = (
    '<path d="M{margin} {margin}V{base}H{right}" fill="none" stroke="#9aa4b2"/>'
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A median and its spread."""

    name: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x > 0, y), in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def bars(title: str, found: Sequence[Bar], digits: int = 0) -> str:
    scale = (_WIDTH - _LABEL - 80) / max((bar.most for bar in found), default=1)
    parts = [_text(10, 20, title)]
    for number, bar in enumerate(found):
        top = _HEAD + number * _ROW
        colour = _OURS if bar.name.startswith("hubgate") else _OTHERS
        end = _LABEL + bar.value * scale
        least, most = _LABEL + bar.least * scale, _LABEL + bar.most * scale
        middle = top + 9
        parts += (
            _text(10, top + 13, bar.name),
            _RECT.format(x=_LABEL, y=top, width=end - _LABEL, colour=colour),
            f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="#24292f"/>',
            _text(most + 6, top + 13, f"{bar.value:,.{digits}f}"),
        )
    return _picture(_HEAD + len(found) * _ROW + 10, parts)


def lines(title: str, found: Sequence[Line], unit: str) -> str:
    """Over a logarithmic x; y begins at 0."""
    points = [point for line in found for point in line.points]
    xs = [log10(x) for x, _ in points]
    low, high, top = min(xs), max(xs), max(y for _, y in points) or 1
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def at(x: float, y: float) -> tuple[float, float]:
        share = (log10(x) - low) / ((high - low) or 1)
        return _MARGIN + share * width, _HEIGHT - _MARGIN - y / top * height

    base = _HEIGHT - _MARGIN
    parts = [
        _text(10, 20, title),
        _AXES.format(margin=_MARGIN, base=base, right=_WIDTH - _MARGIN),
        _text(8, _MARGIN, f"{top:,.0f}"),
        _text(_MARGIN, _HEIGHT - 14, unit),
    ]
    marks = sorted({x for x, _ in points})
    parts += (_text(at(x, 0)[0] - 8, base + 18, f"{x:,.0f}") for x in marks)
    for number, line in enumerate(found):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(x, y) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}"/>')
        parts.append(_text(_WIDTH - 190, 20 + 16 * number, line.name, colour))
    return _picture(_HEIGHT, parts)


def _text(x: float, y: float, text: str, colour: str | None = None) -> str:
    style = _TEXT if colour is None else _TEXT.replace("#24292f", colour)
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _picture(height: int, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}"><rect width="100%" height="100%"'
        f' fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )
