"""hubgate beside what one would use instead, in turn, on the same cores.

    python -m bench gateways [--quick] [--rounds N] [--only NAME,…] [--out DIR]

Every round starts each gateway anew, in another order: a first load to warm it, 500
requests a second to see what one caller waits, then as many as it answers. Before the
first round each must show that it does the job (`bench.checks`). Ratios are taken
inside a round. The callers' role has a limit that nobody reaches: nothing timed is a
denial. What was measured is in DIR/rounds.jsonl, the tables in DIR/gateways.md.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import asyncpg

from bench import checks, machine, report
from bench.envoy import Changed
from bench.envoy_changes import nothing
from bench.installed import Cache, NotInstalled
from bench.load import Load
from bench.peers.envoy import BareEnvoy, Direct
from bench.peers.hubgate import Hubgate
from bench.peers.nginx import NginxLua
from bench.peers.node import Node
from bench.peers.port import Gateway, Running
from bench.peers.python import Python
from bench.programs import Failed
from bench.site import Place, prepared

RATE: Final = 500
_LEDGER_S: Final = 30.0

GATEWAYS: Final[tuple[Gateway, ...]] = (
    Direct(),
    BareEnvoy(1),
    BareEnvoy(2),
    Changed("hubgate's Envoy alone, 1", nothing),
    Changed("hubgate's Envoy alone, 2", nothing, workers=2),
    Hubgate(),
    Hubgate("hubgate, two calls", {"HUBGATE_DECISION_CALLS": "two"}),
    Hubgate(
        "hubgate, two calls, grpcio",
        {"HUBGATE_DECISION_CALLS": "two", "HUBGATE_GRPC_TRANSPORT": "grpcio"},
    ),
    Node("express", 1),
    Node("express", 2),
    Node("fastify", 1),
    Node("fastify", 2),
    Python("FastAPI + aiohttp", "fastapi_proxy", client="aiohttp"),
    Python("FastAPI + httpx", "fastapi_proxy", client="httpx"),
    Python("asyncio by hand, 1", "asyncio_proxy", 1),
    Python("asyncio by hand, 2", "asyncio_proxy", 2),
    Python("asyncio, the least, 1", "asyncio_least", 1),
    NginxLua(1),
)
_QUICK: Final = {
    *("direct", "bare Envoy, 1", "hubgate", "Express, 1", "Fastify, 2"),
    *("asyncio by hand, 2", "nginx + Lua, 1"),
}


class Bench:
    """Rounds, and where they are written down."""

    def __init__(self, place: Place, out: Path, seconds: int) -> None:
        self._place = place
        self._file = out / "rounds.jsonl"
        self._seconds = seconds
        self._known: dict[str, dict[str, Any]] = {}

    def run(self, gateways: Sequence[Gateway], number: int) -> None:
        """One round of all of them."""
        turn = number % len(gateways)
        for gateway in (*gateways[turn:], *gateways[:turn]):
            began = perf_counter()
            found = self._measure(gateway)
            row = {"round": number, "gateway": gateway.name, **found}
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            took = perf_counter() - began
            print(f"{number}  {report.line(row)}  ({took:.0f} s)", flush=True)

    def _measure(self, gateway: Gateway) -> dict[str, Any]:
        if self._known.get(gateway.name, {}).get("failed"):
            return self._known[gateway.name]
        try:
            with gateway.start(self._place.site) as running:
                return self._measure_running(gateway, running)
        except (Failed, NotInstalled, OSError) as error:
            self._known[gateway.name] = {"failed": f"{type(error).__name__}: {error}"}
            return self._known[gateway.name]

    def _measure_running(self, gateway: Gateway, running: Running) -> dict[str, Any]:
        place = self._place
        checks.wait_until_ready(running, place.issuer.of(0))
        if gateway.name not in self._known:
            self._known[gateway.name] = _known(gateway, running, place)
        warm = Load(place.tokens, seconds=max(1, self._seconds // 2))
        place.load(running, warm)
        place.settle(running)
        paced = place.paced(running, RATE, self._seconds)
        if paced.over:  # what it was asked still waits in it
            checks.wait_until_ready(running, place.issuer.of(0))
        loaded = place.load(running, Load(place.tokens, seconds=self._seconds))
        return {
            **self._known[gateway.name],
            **loaded.as_json(),
            "paced": asdict(paced),
            "ledger": _ledger(running, loaded.result.requests),
        }


def _known(gateway: Gateway, running: Running, place: Place) -> dict[str, Any]:
    """What need not be asked twice."""
    if not gateway.decides:
        return {"window": gateway.window}
    checks.check(running, place.issuer)
    passed = checks.pass_in_a_window_and_a_half(running, place.issuer)
    return {"window": gateway.window, "passed": passed}


def _ledger(running: Running, requests: int) -> dict[str, int] | None:
    """The load's requests and the ledger's rows, as soon as there are as many."""
    if running.database_url is None:
        return None
    return {
        "requests": requests,
        "rows": asyncio.run(_rows(running.database_url, requests)),
    }


async def _rows(url: str, wanted: int) -> int:
    connection = await asyncpg.connect(url)
    deadline = perf_counter() + _LEDGER_S
    try:
        found = 0
        while found < wanted and perf_counter() < deadline:
            found = await connection.fetchval("SELECT count(*) FROM usage_logs")
            await asyncio.sleep(0.2)
        return found
    finally:
        await connection.close()


def chosen(only: str | None, *, quick: bool) -> list[Gateway]:
    """Those that were asked for, in the order of the list.

    Raises:
        SystemExit: one of them is unknown.
    """
    names = set(only.split(";")) if only else None
    if names is not None:
        unknown = names - {gateway.name for gateway in GATEWAYS}
        if unknown:
            known = "; ".join(gateway.name for gateway in GATEWAYS)
            raise SystemExit(f"no gateway {', '.join(unknown)}; there are: {known}")
    if names is None and quick:
        names = _QUICK
    return [one for one in GATEWAYS if names is None or one.name in names]


def main(cache: Cache, argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench gateways")
    parser.add_argument("--quick", action="store_true", help="seven of them, 3 rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--only", help="names, with ; between them")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--append", action="store_true", help="to earlier rounds")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.append:
        (given.out / "rounds.jsonl").unlink(missing_ok=True)
    rounds = given.rounds or (3 if given.quick else 5)
    gateways = chosen(given.only, quick=given.quick)
    try:
        with prepared(cache) as place:
            bench = Bench(place, given.out, given.seconds)
            first = report.rounds(given.out)
            for number in range(first, first + rounds):
                bench.run(gateways, number)
            where = machine.describe(place.cores)
    except NotInstalled as error:
        raise SystemExit(f"the bench needs wrk and nginx: {error}") from error
    report.write(given.out, where)
    print(f"\n{(given.out / 'gateways.md').read_text()}")
