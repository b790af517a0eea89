"""What each part of hubgate's Envoy configuration costs Envoy.

    python -m bench envoy [--rounds 3] [--seconds 5] [--only NAME,…]

A real Envoy with the configuration that control builds, for one route, but for one
thing that is left out or set otherwise; what it asks answers at once. Told are Envoy's
milliseconds of CPU for 10,000 requests, medians, and by how much they are less than
with everything (taken inside a round). Everything shares this machine's cores.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)

from authz.answers import write
from authz.decision import Allow
from authz.limits import Ruling
from bench.envoy_changes import CHANGES, Change, nothing
from bench.installed import Cache, NotInstalled
from bench.load import Load
from bench.peers.hubgate import configuration
from bench.peers.port import Running, Site
from bench.site import Place, prepared
from control.parse import from_document
from control.xds.bootstrap import static_bootstrap
from control.xds.deployment import Deployment
from control.xds.listeners import standalone_listener
from control.xds.snapshot import build
from local import binaries
from local.ports import free_ports
from runtime import contracts
from runtime.grpc_server import GrpcServer, Unary
from runtime.metrics import Metrics
from runtime.settings import Address, GrpcTransport

_CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
_TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_EXPORT: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


async def serve(path: str) -> None:
    """Let everything pass and keep nothing, until it is killed."""
    told = {"RateLimit-Limit": "60, 60;w=60", "RateLimit-Remaining": "59"}
    ruling = Ruling(
        admitted=True,
        headers={**told, "RateLimit-Reset": "60"},
        counters="60;59;60;role user: 60 requests per 60 s",
    )
    answer = write(Allow("u-1", "user", "token"), ruling, None, _TRACE)

    async def check(_: bytes) -> bytes:
        return answer

    async def export(_: bytes) -> bytes:
        return b""

    methods = [Unary(_CHECK, bytes, bytes, check), Unary(_EXPORT, bytes, bytes, export)]
    server = GrpcServer(Address(path=path), methods, Metrics(), GrpcTransport.HTTP2)
    await server.start()
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Changed:
    """Envoy alone, with one thing changed."""

    name: str
    change: Change
    workers: int = 1
    routes: int = 1
    decides: bool = field(default=False, init=False)
    window: str = field(default="none", init=False)

    @contextmanager
    def start(self, site: Site) -> Iterator[Running]:
        (port,) = free_ports(1)
        folder = site.folder(self.name)
        socket = folder / "s"
        config = folder / "envoy.pb"
        config.write_bytes(self._bootstrap(site, folder, socket, port))
        serving = (sys.executable, "-m", "bench.envoy", "--serve", str(socket))
        argv = (
            *(str(binaries.envoy()), "-c", str(config), "--log-level", "warn"),
            *("--concurrency", str(self.workers), "--disable-hot-restart"),
        )
        with site.run("asked", serving) as asked, site.run(self.name, argv) as envoy:
            asked.wait_until(socket.is_socket, "its socket", 20.0)
            envoy.wait_for_port(port)
            yield Running(port, {"envoy": [envoy.pid], "asked": [asked.pid]})

    def _bootstrap(self, site: Site, folder: Path, socket: Path, port: int) -> bytes:
        config = from_document(configuration(self.routes, site.upstream_port))
        asked = (Address(path=str(socket)),)
        here = Deployment(
            listen=Address(host="127.0.0.1", port=port),
            authz=asked,
            ratelimit=asked,
            usage_sink=asked,
            control=Address(host="127.0.0.1", port=1),
            calls=contracts.DecisionCalls.ONE,
            log_file=str(folder / "access.log"),
        )
        content = static_bootstrap(
            build(config, here, {}), standalone_listener(config, here)
        )
        bootstrap = bootstrap_pb2.Bootstrap.FromString(content)
        (listener,) = bootstrap.static_resources.listeners
        packed = listener.filter_chains[0].filters[0].typed_config
        manager = manager_pb2.HttpConnectionManager.FromString(packed.value)
        self.change(bootstrap, manager)
        packed.value = manager.SerializeToString()
        return bytes(bootstrap.SerializeToString())


VARIANTS: Final = [
    *(Changed(name, change) for name, change in CHANGES.items()),
    Changed("two workers", nothing, workers=2),
]


def measure(place: Place, one: Changed, seconds: int) -> tuple[float, float]:
    """Milliseconds of Envoy's CPU for 10,000 requests, and requests a second."""
    with one.start(place.site) as running:
        path = "/api/load/x" if one.routes == 1 else "/api/load%d/x"
        load = Load(place.tokens, path, one.routes, seconds=seconds)
        place.load(running, Load(place.tokens, path, one.routes, seconds=1))
        loaded = place.load(running, load)
    if loaded.result.errors:
        raise SystemExit(f"{one.name}: {loaded.result}")
    return loaded.cpu_ms["envoy"], loaded.result.rate


def show(rows: dict[str, list[tuple[float, float]]]) -> None:
    whole = [cpu for cpu, _ in rows[VARIANTS[0].name]]
    print("| | CPU ms | less than with everything | requests/s |\n|---|--:|--:|--:|")
    for name, found in rows.items():
        spared = [all_ - cpu for all_, (cpu, _) in zip(whole, found, strict=True)]
        cells = (median(cpu for cpu, _ in found), median(rate for _, rate in found))
        between = f"{median(spared):.0f} ({min(spared):.0f} to {max(spared):.0f})"
        print(f"| {name} | {cells[0]:,.0f} | {between} | {cells[1]:,.0f} |", flush=True)


def main(cache: Cache, argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench envoy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", help="names, with commas between")
    given = parser.parse_args(argv)
    names = given.only and [VARIANTS[0].name, *given.only.split(",")]
    chosen = [one for one in VARIANTS if not names or one.name in names]
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    try:
        with prepared(cache) as place:
            for number in range(given.rounds):
                turn = number % len(chosen)
                for one in (*chosen[turn:], *chosen[:turn]):
                    rows[one.name].append(measure(place, one, given.seconds))
    except NotInstalled as error:
        raise SystemExit(f"the bench needs wrk and nginx: {error}") from error
    show({one.name: rows[one.name] for one in chosen})


if __name__ == "__main__":
    if sys.argv[1] != "--serve":
        raise SystemExit(__doc__)
    asyncio.run(serve(sys.argv[2]))
