"""Tables and pictures of the scales."""

import json
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import svg
from bench.report import table

_STORES: Final = ("redis", "postgres", "upstream", "wrk")

Row = dict[str, Any]


def line(row: Row) -> str:
    """For whoever waits."""
    per_key = row.get("redis_bytes_per_key")
    return (
        f"{row['scale']:12}{row['label']:22}{row['rate']:9.0f}/s"
        f"  p99 {row['result']['p99_ms']:6.1f} ms  {_megabytes(row, 'rss_kb'):4.0f} MB"
        + (f"  {per_key:.0f} bytes of Redis a user" if per_key else "")
        + (f"  errors {row['errors']}" if row["errors"] else "")
    )


def write(out: Path, machine: str) -> None:
    """`scales.md` and a picture for each, from `scales.jsonl`."""
    lines = (out / "scales.jsonl").read_text().splitlines()
    rows: list[Row] = [json.loads(text) for text in lines]
    parts = [f"Medians; {machine}. Shares of the first row are taken inside a round."]
    for scale in dict.fromkeys(row["scale"] for row in rows):
        of_scale = [row for row in rows if row["scale"] == scale]
        parts += (f"### {scale}", _table(of_scale))
        if any(row["x"] for row in of_scale):
            (out / f"scale-{scale}.svg").write_text(_picture(scale, of_scale))
    (out / "scales.md").write_text("\n\n".join(parts) + "\n")


def _table(rows: list[Row]) -> str:
    scale = rows[0]["scale"]
    heading = [
        *(scale, "requests/s", "× the first (least–most)", "p99, ms"),
        *("memory, MB RSS (PSS)", "Redis bytes a user", "errors"),
    ]
    labels = sorted({row["label"] for row in rows}, key=lambda name: _place(rows, name))
    first = {row["round"]: row["rate"] for row in rows if row["label"] == labels[0]}
    return table(heading, (_row(_of(rows, name), first) for name in labels))


def _row(rows: list[Row], first: dict[int, float]) -> list[str]:
    shares = [row["rate"] / first[row["round"]] for row in rows]
    per_key = [row["redis_bytes_per_key"] for row in rows if _counts_users(row)]
    return [
        rows[0]["label"],
        f"{median(row['rate'] for row in rows):,.0f}",
        f"{median(shares):.2f} ({min(shares):.2f}–{max(shares):.2f})",
        f"{median(row['result']['p99_ms'] for row in rows):.1f}",
        f"{_middle(rows, 'rss_kb'):.0f} ({_middle(rows, 'pss_kb'):.0f})",
        f"{median(per_key):.0f}" if per_key else "–",
        str(sum(row["errors"] for row in rows)),
    ]


def _picture(scale: str, rows: list[Row]) -> str:
    lines = []
    for gateway in dict.fromkeys(row["gateway"] for row in rows):
        own = [row for row in rows if row["gateway"] == gateway]
        points = [
            (x, median(row["rate"] for row in own if row["x"] == x))
            for x in sorted({row["x"] for row in own})
        ]
        lines.append(svg.Line(gateway, points))
    return svg.lines("requests/s", lines, scale)


def _of(rows: list[Row], label: str) -> list[Row]:
    return [row for row in rows if row["label"] == label]


def _place(rows: list[Row], label: str) -> tuple[bool, float, int]:
    """Ours first, along the scale; what has no number as it was measured."""
    first = _of(rows, label)[0]
    return first["gateway"] != "hubgate", first["x"], rows.index(first)


def _counts_users(row: Row) -> bool:
    return bool(row["distinct"]) and "redis_bytes_per_key" in row


def _middle(rows: list[Row], kind: str) -> float:
    return median(_megabytes(row, kind) for row in rows)


def _megabytes(row: Row, kind: str) -> float:
    """Of the gateway's own processes."""
    own: float = sum(kb for part, kb in row[kind].items() if part not in _STORES)
    return own / 1024
