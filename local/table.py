"""Usage records as a table for people."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("createdAt", "userId", "service", "model", "tokens", "credits")


def usage(items: Sequence[Mapping[str, Any]]) -> str:
    """One line for each record; a dash where there is nothing."""
    rows = [
        [str(item.get(c) if item.get(c) is not None else "-") for c in _COLUMNS]
        for item in items
    ]
    return _align([list(_COLUMNS), *rows])


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
