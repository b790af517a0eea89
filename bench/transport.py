"""What one gRPC call costs on each transport and event loop.

The handler does nothing; told are the process's CPU for a call, and calls a second.

    python -m bench.transport [--rounds 5] [--seconds 3]

First through a raw client, which sends what Envoy sends (one header block, then the
same again) and reads little of the answer: the server is what limits. Then as ext_authz
of a real Envoy with one worker, which answers by itself, under wrk with 64 connections.
The candidates take turns in every round; medians are told. Everything shares this
machine's cores.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from envoy.service.auth.v3 import external_auth_pb2
from hpack import Encoder

from control.validate import find_envoy
from runtime.grpc_server import GrpcServer, Unary
from runtime.http2 import frames
from runtime.metrics import Metrics
from runtime.settings import Address, GrpcTransport

CHECK = "/envoy.service.auth.v3.Authorization/Check"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
CANDIDATES = [(transport, loop) for transport in GrpcTransport for loop in LOOPS]
REQUEST_BYTES = 260  # a CheckRequest with `allowed_headers`
STREAMS = (1, 32)  # calls at a time, through the raw client
CALLS = 20_000
CONNECTIONS = 64
_MANAGER = "http_connection_manager.v3.HttpConnectionManager"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


async def serve(transport: GrpcTransport, path: str) -> None:
    """Let everything pass, until it is killed."""
    allowed = external_auth_pb2.CheckResponse()
    allowed.ok_response.headers.add().header.key = "x-user-id"
    answer: bytes = allowed.SerializeToString()

    async def check(_: bytes) -> bytes:
        return answer

    method = Unary(CHECK, bytes, bytes, check)
    server = GrpcServer(Address(path=path), [method], Metrics(), transport)
    await server.start()
    await asyncio.Event().wait()


@contextmanager
def serving(transport: str, loop: str, folder: Path) -> Iterator[tuple[int, str]]:
    """A process that serves; its pid and the path of its socket."""
    path = folder / f"{transport}-{loop}"
    argv = [sys.executable, "-m", "bench.transport", "--serve", transport, loop]
    path.unlink(missing_ok=True)  # of the round before
    process = subprocess.Popen([*argv, str(path)])
    try:
        wait_until(path.is_socket)
        yield process.pid, str(path)
    finally:
        process.terminate()
        process.wait()


def wait_until(look: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 20
    while not look():
        if time.perf_counter() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def cpu_s(pid: int) -> float:
    """What the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def ask(path: str, streams: int, calls: int) -> None:
    """So many calls, so many at a time, over one connection."""
    encoder = Encoder()
    names = ("x-envoy-internal", "x-forwarded-for", "x-envoy-expected-rq-timeout-ms")
    headers = [
        *((":method", "POST"), (":path", CHECK), (":authority", "authz")),
        *((":scheme", "http"), ("te", "trailers"), ("grpc-timeout", "250m")),
        ("content-type", "application/grpc"),
        *zip(names, ("true", "192.0.2.2", "250"), strict=True),
    ]
    message = bytes(REQUEST_BYTES)
    body = b"\0" + len(message).to_bytes(4) + message

    def request(stream_id: int) -> bytes:
        block = encoder.encode(headers) if stream_id == 1 else again
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block)
        return head + frames.frame(frames.DATA, frames.END_STREAM, stream_id, body)

    first = request(1)
    again = encoder.encode(headers)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(frames.PREFACE + frames.settings_frame({}))
        client.sendall(frames.window_update(0, 2**30) + first)
        sent, done, rest = 1, 0, b""
        while done < calls:
            ended, rest = read(client, rest)
            done += ended
            more = min(calls - sent, streams - (sent - done))
            client.sendall(b"".join(request(2 * (sent + n) + 1) for n in range(more)))
            sent += more


def read(client: socket.socket, rest: bytes) -> tuple[int, bytes]:
    """How many answers have ended, and the bytes of a frame that has not."""
    data = rest + client.recv(262_144)
    position = ended = 0
    while len(data) - position >= frames.HEAD_SIZE:
        high, low, kind, flags, _ = frames.unpack_head(data, position)
        after = position + frames.HEAD_SIZE + (high << 8 | low)
        if after > len(data):
            break
        if kind in (frames.RST_STREAM, frames.GOAWAY) or not data:
            raise ConnectionError(data[position:after])
        if kind == frames.PING and not flags & frames.ACK:
            payload = data[position + frames.HEAD_SIZE : after]
            client.sendall(frames.frame(frames.PING, frames.ACK, 0, payload))
        ended += kind == frames.HEADERS and flags & frames.END_STREAM
        position = after
    return ended, data[position:]


def bootstrap(authz: str | None, port: int) -> dict[str, Any]:
    """An Envoy that answers by itself, after asking `authz` if there is one."""
    types = "type.googleapis.com/envoy.extensions"
    router = {"@type": f"{types}.filters.http.router.v3.Router"}
    http_filters = [{"name": "router", "typed_config": router}]
    clusters = []
    if authz is not None:
        service = {"envoy_grpc": {"cluster_name": "authz"}, "timeout": "5s"}
        check = {
            "@type": f"{types}.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": service,
            "allowed_headers": {"patterns": [{"exact": "authorization"}]},
        }
        http_filters.insert(0, {"name": "authz", "typed_config": check})
        options = f"{types}.upstreams.http.v3.HttpProtocolOptions"
        address = {"pipe": {"path": authz}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        http2: Any = {"explicit_http_config": {"http2_protocol_options": {}}}
        clusters.append(
            {
                "name": "authz",
                "typed_extension_protocol_options": {
                    options.rpartition("/")[2]: {"@type": options, **http2}
                },
                "load_assignment": {"cluster_name": "authz", "endpoints": endpoints},
            }
        )
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    manager = {
        "@type": f"{types}.filters.network.{_MANAGER}",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": http_filters,
    }
    listen = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "http", "address": listen, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def through_envoy(authz: str | None, folder: Path, seconds: int) -> float:
    """Requests a second; every one must be a 200."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap(authz, port)))
    argv = [str(find_envoy(None)), "-c", str(file), "--concurrency", "1"]
    argv += ["--disable-hot-restart", "--log-level", "error"]
    envoy = subprocess.Popen(argv)
    try:
        wait_until(lambda: listens(port))
        load = [str(shutil.which("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}"]
        load += [
            "-H",
            "Authorization: Bearer " + "x" * 200,
            f"http://127.0.0.1:{port}/",
        ]
        said = subprocess.run(load, check=True, capture_output=True, text=True).stdout
    finally:
        envoy.terminate()
        envoy.wait()
    if (
        "Non-2xx" in said
        or (found := re.search(r"Requests/sec:\s+([\d.]+)", said)) is None
    ):
        raise RuntimeError(said)
    return float(found[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def measure(rounds: int, seconds: int, folder: Path) -> None:
    """All candidates, once a round, and a table of medians."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(rounds):
        if shutil.which("wrk"):
            figures["Envoy alone", "Envoy: requests/s"].append(
                through_envoy(None, folder, seconds)
            )
        for transport, loop in CANDIDATES:
            name = f"{transport}, {loop}"
            with serving(transport, loop, folder) as (pid, path):
                for streams in STREAMS:
                    used, began = cpu_s(pid), time.perf_counter()
                    ask(path, streams, CALLS)
                    taken = time.perf_counter() - began
                    cost = (cpu_s(pid) - used) / CALLS * 1e6
                    figures[name, f"{streams} at a time: µs of CPU"].append(cost)
                    figures[name, f"{streams} at a time: calls/s"].append(CALLS / taken)
                if shutil.which("wrk"):
                    used = cpu_s(pid)
                    rate = through_envoy(path, folder, seconds)
                    cost = (cpu_s(pid) - used) / (rate * seconds) * 1e6
                    figures[name, "Envoy: µs of CPU"].append(cost)
                    figures[name, "Envoy: requests/s"].append(rate)
    show(figures)


def show(figures: dict[tuple[str, str], list[float]]) -> None:
    columns = sorted({column for _, column in figures})
    sys.stdout.write(f"| | {' | '.join(columns)} |\n|---{'|---:' * len(columns)}|\n")
    for name in dict.fromkeys(name for name, _ in figures):
        cells = []
        for column in columns:
            values = figures.get((name, column))
            cells.append("" if not values else _cell(values))
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


def _cell(values: list[float]) -> str:
    digits = 0 if max(values) >= 1000 else 1  # noqa: PLR2004 - rates and costs
    low, middle, high = (
        f"{value:,.{digits}f}" for value in (min(values), median(values), max(values))
    )
    return f"{middle} ({low}-{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        transport, loop, path = options.serve
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(serve(GrpcTransport(transport), path))
    with tempfile.TemporaryDirectory() as folder:
        measure(options.rounds, options.seconds, Path(folder))


if __name__ == "__main__":
    main()
