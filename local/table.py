"""Usage records, nodes of the ledger and what was configured, as text for people."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_USAGE = ("createdAt", "userId", "service", "model", "tokens", "credits")
_SUMS = ("requests", "errors", "tokens", "credits")
_NODES = (
    *("node", "completeThrough", "ageSeconds", "silentSeconds", "pending"),
    *("isClosed", "closedByHandAt"),
)

_REVISIONS = ("revision", "createdAt", "author", "status", "comment", "reason")


def usage(items: Sequence[Mapping[str, Any]]) -> str:
    """One line for each record."""
    return _table(items, _USAGE)


def sums(answer: Mapping[str, Any], by: Sequence[str]) -> str:
    """One line for each group, one for all others, one for the whole."""
    columns = (*dict.fromkeys(by or [""]), *_SUMS)
    ends = {"other": answer.get("other"), "total": answer.get("totals")}
    last = [{**one, columns[0]: name} for name, one in ends.items() if one]
    return _table([*answer.get("items", []), *last], columns)


def nodes(items: Sequence[Mapping[str, Any]]) -> str:
    """One line for each node."""
    return _table(items, _NODES)


def revisions(items: Sequence[Mapping[str, Any]]) -> str:
    """One line for each revision."""
    return _table(items, _REVISIONS)


def change(one: Mapping[str, Any]) -> str:
    """A field that came (+), went (-) or is another (~)."""
    said = [
        json.dumps(one[name], ensure_ascii=False)
        for name in ("before", "after")
        if name in one
    ]
    sign = "~" if len(said) == 2 else "+" if "after" in one else "-"  # noqa: PLR2004
    return f"{sign} {one['field']}: {' -> '.join(said)}"


def _table(items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A dash where there is nothing."""
    rows = [
        [str(item.get(c) if item.get(c) is not None else "-") for c in columns]
        for item in items
    ]
    return _align([list(columns), *rows])


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
