"""Tables and pictures of what was measured."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import svg

BASE: Final = "bare Envoy, 1"
_STORES: Final = ("redis", "postgres")
_OUTSIDE: Final = ("upstream", "wrk")

Row = dict[str, Any]
Value = Callable[[Row], float]


def rounds(out: Path) -> int:
    """How many are written down there."""
    return max((row["round"] + 1 for row in read(out)), default=0)


def read(out: Path) -> list[Row]:
    path = out / "rounds.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def line(row: Row) -> str:
    """For whoever waits."""
    if "failed" in row:
        return f"{row['gateway']:22} {row['failed'][:200]}"
    paced = row["paced"]
    return (
        f"{row['gateway']:22}{row['rate']:9.0f}/s"
        f"  p99 {row['result']['p99_ms']:6.1f} ms"
        f"  at 500/s {paced['p50_ms']:6.2f} {paced['p99_ms']:7.2f} ms"
        + ("  OVER" if paced["over"] else "")
        + (f"  errors {row['errors']}" if row["errors"] else "")
    )


class Rounds:
    """Rows of one run; a ratio or difference is of two of the same round."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._by_gateway: dict[str, dict[int, Row]] = {}
        self.failed: dict[str, str] = {}
        for row in rows:
            if "failed" in row:
                self.failed[row["gateway"]] = row["failed"]
            else:
                self._by_gateway.setdefault(row["gateway"], {})[row["round"]] = row

    @property
    def gateways(self) -> list[str]:
        return list(self._by_gateway)

    def rows(self, gateway: str) -> list[Row]:
        return list(self._by_gateway.get(gateway, {}).values())

    def values(self, gateway: str, value: Value) -> list[float]:
        return [value(row) for row in self.rows(gateway)]

    def parts(self, gateway: str) -> set[str]:
        return {part for row in self.rows(gateway) for part in row["cpu_ms"]}

    def median(self, gateway: str, value: Value) -> float:
        return median(self.values(gateway, value))

    def ratios(self, gateway: str, base: str, value: Value) -> list[float]:
        return [value(a) / value(b) for a, b in self._pairs(gateway, base) if value(b)]

    def differences(self, gateway: str, base: str, value: Value) -> list[float]:
        return [value(a) - value(b) for a, b in self._pairs(gateway, base)]

    def _pairs(self, gateway: str, base: str) -> list[tuple[Row, Row]]:
        ours = self._by_gateway.get(gateway, {})
        theirs = self._by_gateway.get(base, {})
        return [(ours[n], theirs[n]) for n in sorted(ours.keys() & theirs.keys())]


def write(out: Path, machine: str) -> None:
    """`gateways.md` and its pictures, from `rounds.jsonl`."""
    found = Rounds(sorted(read(out), key=lambda row: row["round"]))
    names = sorted(found.gateways, key=lambda name: -found.median(name, _rate))
    count = rounds(out)
    head = (
        f"Medians of {count} interleaved rounds; {machine}. Load: wrk, 64 connections,"
        " 100 users. wrk, upstream, stores and gateway share the cores."
    )
    parts = [
        head,
        _throughput(found, names),
        *([_beside(found, names)] if "hubgate" in names else []),
        _cpu(found, names),
        _notes(found),
    ]
    (out / "gateways.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    _draw(out / "gateways.svg", "requests/s (line: least to most)", found, _rate, 0)
    _draw(out / "latency.svg", "p50 at 500 requests/s, ms", found, _p50, 2)


def _draw(path: Path, title: str, found: "Rounds", value: Value, digits: int) -> None:
    """All but the upstream alone; those that can't keep up have no latency."""
    names = [name for name in found.gateways if name != "direct"]
    if value is _p50:
        names = [name for name in names if not _over(found, name)]
    bars = [svg.Bar(name, *spread(found.values(name, value))) for name in names]
    bars.sort(key=lambda bar: bar.value, reverse=value is _rate)
    path.write_text(svg.bars(title, bars, digits))


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least, most."""
    return median(values), min(values), max(values)


def table(heading: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rate(row: Row) -> float:
    return float(row["rate"])


def _p50(row: Row) -> float:
    return float(row["paced"]["p50_ms"])


def _p99(row: Row) -> float:
    return float(row["paced"]["p99_ms"])


def _saturated(row: Row) -> float:
    return float(row["result"]["p99_ms"])


def _own(kind: str) -> Value:
    """Of the gateway's own processes, without its stores."""

    def value(row: Row) -> float:
        others = (*_STORES, *_OUTSIDE)
        return float(sum(v for part, v in row[kind].items() if part not in others))

    return value


def _over(found: Rounds, name: str) -> bool:
    return any(row["paced"]["over"] for row in found.rows(name))


def _throughput(found: Rounds, names: list[str]) -> str:
    heading = [
        *("gateway", "requests/s", f"× {BASE}", "p99 under load, ms"),
        *("added p50 at 500/s, ms", "p99 at 500/s less bare Envoy's, ms"),
        *("memory, MB PSS (RSS)", "window: pass in 1.5 of 60"),
    ]
    return table(heading, (_throughput_row(found, name) for name in names))


def _throughput_row(found: Rounds, name: str) -> list[str]:
    row = found.rows(name)[0]
    window = f"{row['window']}: {row['passed']}" if "passed" in row else "–"
    pss, rss = (found.median(name, _own(k)) / 1024 for k in ("pss_kb", "rss_kb"))
    over = _over(found, name)
    return [
        name,
        f"{found.median(name, _rate):,.0f}",
        _ratio(found.ratios(name, BASE, _rate)),
        f"{found.median(name, _saturated):.1f}",
        "over" if over else _ms(found.differences(name, "direct", _p50), 2),
        "over" if over else _ms(found.differences(name, BASE, _p99), 1),
        f"{pss:.0f} ({rss:.0f})" if pss else "–",
        window,
    ]


def _beside(found: Rounds, names: list[str]) -> str:
    heading = ["hubgate ÷", "requests/s", "least – most"]
    rows = []
    for name in names:
        ratios = found.ratios("hubgate", name, _rate)
        if ratios and name not in {"hubgate", "direct"}:
            middle, least, most = spread(ratios)
            rows.append([name, f"{middle:.2f}", f"{least:.2f} – {most:.2f}"])
    return table(heading, rows)


def _cpu(found: Rounds, names: list[str]) -> str:
    rows = []
    for name in names:
        used = {part: found.median(name, _of(part)) for part in found.parts(name)}
        own = {part: ms for part, ms in used.items() if part not in _OUTSIDE and ms}
        largest = sorted(own.items(), key=lambda item: -item[1])
        split = ", ".join(f"{part} {ms:,.0f}" for part, ms in largest)
        rows.append([name, f"{sum(own.values()):,.0f}", split or "–"])
    return table(["gateway", "CPU ms per 10,000 requests", "of which"], rows)


def _of(part: str) -> Value:
    return lambda row: float(row["cpu_ms"].get(part, 0.0))


def _notes(found: Rounds) -> str:
    lines = [
        f"- **{name} was not measured**: {why}" for name, why in found.failed.items()
    ]
    for name in found.gateways:
        errors = sum(row["errors"] for row in found.rows(name))
        if errors:
            lines.append(f"- {name}: {errors} errors")
        ledgers = [row["ledger"] for row in found.rows(name) if row.get("ledger")]
        if ledgers:
            short = sum(one["rows"] < one["requests"] for one in ledgers)
            lines.append(
                f"- {name}: every timed request is in the ledger in"
                f" {len(ledgers) - short} of {len(ledgers)} rounds"
            )
    return "\n".join(lines)


def _ratio(values: list[float]) -> str:
    if not values:
        return "–"
    middle, least, most = spread(values)
    return f"{middle:.2f} ({least:.2f}–{most:.2f})"


def _ms(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    middle, least, most = spread(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})"
