"""How complete the ledger is, node by node. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from control.console import figures
from control.console.filters import Filters
from control.console.sections import Row, Section, Table

PATH: Final = "/api/usage/completeness"
_COUNTED: Final = ("admitted", "recorded", "unsettled", "quarantined")


def read(body: Mapping[str, Any], chosen: Filters) -> Section:
    """What each gateway claims, and what they counted in the last hour."""
    nodes = Table(
        "Gateways and up to when all of their requests are in the ledger",
        ("Gateway", "Complete up to", "By", "On the way", "State"),
        tuple(_node(one, chosen.zone) for one in body["nodes"]),
    )
    minutes = body["minutes"]
    counts = Table(
        "Requests that began in the last hour",
        ("Gateway", *(name.capitalize() for name in _COUNTED)),
        tuple(_counts(name, minutes) for name in _nodes(minutes)),
    )
    return Section(key="completeness", title="Completeness", tables=[nodes, counts])


def _node(node: Mapping[str, Any], zone: ZoneInfo) -> Row:
    cells = (
        figures.instant(node["completeThrough"], zone),
        node["basis"],
        figures.whole(node["pending"]),
        _state(node),
    )
    return Row(node["node"], cells)


def _state(node: Mapping[str, Any]) -> str:
    if not node["isClosed"]:
        return "running"
    return "stopped" if node["closedByHandAt"] is None else "closed by hand"


def _nodes(minutes: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({one["node"] for one in minutes})


def _counts(node: str, minutes: Sequence[Mapping[str, Any]]) -> Row:
    own = [one for one in minutes if one["node"] == node]
    sums = (sum(one[name] for one in own) for name in _COUNTED)
    return Row(node, tuple(map(figures.whole, sums)))
