"""A real Envoy, fed by a real control, between a real client and upstream."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

import httpx
from envoy.service.auth.v3 import external_auth_pb2
from starlette.types import Receive, Scope, Send

from control.change_ports import Ports
from control.changes import Changes
from control.model import GatewayConfig
from control.parse import from_document
from control.service import DiscoveryService
from control.store import MemoryConfigStore
from control.validate import Validator, find_envoy
from control.xds.cache import SnapshotCache
from control.xds.deployment import Deployment
from local.ports import free_ports
from runtime.clock import SystemClock
from runtime.contracts import DecisionCalls
from runtime.grpc_server import GrpcServer, Unary
from runtime.metrics import Metrics
from runtime.ops_server import HttpServer
from runtime.settings import Address
from tests.builders_control import KeptRules

BOOTSTRAP = Path(__file__).parents[3] / "envoy" / "bootstrap.yaml"
DEADLINE_S = 15.0
POLL_S = 0.02

OPENAI = {
    "id": "c",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
ANTHROPIC = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "hi"}],
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 4,
        "output_tokens": 3,
    },
}
OPENAI_EVENTS = [
    {**OPENAI, "object": "chat.completion.chunk", "usage": None, "choices": []},
    {**OPENAI, "object": "chat.completion.chunk", "choices": []},
]
ANTHROPIC_EVENTS = [
    {"type": "message_start", "message": {**ANTHROPIC, "content": []}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer, within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await look()):
            await asyncio.sleep(POLL_S)
    return found


def free_port() -> int:
    """No port that the kernel may give to somebody else before it is taken."""
    (port,) = free_ports(1)
    return port


@dataclass
class Upstream:
    """Echoes what it received; `/ai/…` answers like a provider."""

    seen: list[Scope] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.seen.append(scope)
        match path:
            case "/ai/openai":
                await self._json(send, OPENAI)
            case "/ai/anthropic":
                await self._json(send, ANTHROPIC)
            case "/ai/openai/stream":
                await self._events(send, [json.dumps(one) for one in OPENAI_EVENTS])
            case "/ai/anthropic/stream":
                await self._events(send, [json.dumps(one) for one in ANTHROPIC_EVENTS])
            case "/slow":
                await self.release.wait()
                await self._json(send, {})
            case "/held":
                await self._events(send, ["first", "last"], held=True)
            case _:
                # What is answered before its end may have been too large.
                while (await receive()).get("more_body"):
                    pass
                headers = {
                    name.decode(): value.decode() for name, value in scope["headers"]
                }
                await self._json(send, {"path": path, "headers": headers})

    async def _json(self, send: Send, body: Any) -> None:
        await _start(send, b"application/json")
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async def _events(
        self, send: Send, events: list[str], *, held: bool = False
    ) -> None:
        await _start(send, b"text/event-stream")
        for number, event in enumerate(events):
            if held and number == len(events) - 1:
                await self.release.wait()
            body = f"data: {event}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, content_type: bytes) -> None:
    headers = [
        (b"content-type", content_type),
        (b"server", b"secret/1.0"),
        (b"x-powered-by", b"secret"),
        (b"x-envoy-secret", b"secret"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


class Gatekeeper:
    """Answers for authz: lets pass, says who it is, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.identity = {"user_id": "u-1", "role": "user"}

    def methods(self) -> list[Unary]:
        return [
            Unary(
                "/envoy.service.auth.v3.Authorization/Check",
                external_auth_pb2.CheckRequest.FromString,
                external_auth_pb2.CheckResponse.SerializeToString,
                self.check,
            )
        ]

    async def check(self, request: Any) -> Any:
        self.asked.append(request)
        response = external_auth_pb2.CheckResponse()
        response.dynamic_metadata.update(self.identity)
        header = response.ok_response.headers.add()
        header.header.key, header.header.value = "x-user-id", "u-1"
        return response


@dataclass
class Bench:
    """Everything that a test needs, running."""

    client: httpx.AsyncClient
    envoy: "EnvoyProcess"
    changes: Changes
    snapshots: SnapshotCache
    upstream: Upstream
    gatekeeper: Gatekeeper
    log_file: Path
    deployment: Deployment
    ads: GrpcServer
    discovery: DiscoveryService
    ports: Ports

    @property
    def admin(self) -> str:
        return self.envoy.admin

    def entries(self) -> list[dict[str, Any]]:
        """Of the access log; a line that is being written is none yet."""
        whole, _, _ = self.log_file.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def entry(self, request_id: str) -> dict[str, Any]:
        """The access log's entry of a request."""

        async def look() -> dict[str, Any] | None:
            found = (one for one in self.entries() if one["id"] == request_id)
            return next(found, None)

        found: dict[str, Any] = await until(look)
        return found

    async def stat(self, name: str) -> int:
        """One of Envoy's own counters."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.admin}/stats", params={"filter": name})
        return sum(int(line.rpartition(" ")[2]) for line in answer.text.splitlines())

    async def edit(self, **parts: Any) -> Any:
        """Replace whole parts of the document."""
        return await self.changes.apply(
            lambda document: {**document, **parts}, "test", ""
        )

    async def add(self, **route: Any) -> Any:
        """Put a route to the upstream in force."""
        body = {"service": "up", "rate_limit": "none", **route}

        def edit(document: dict[str, Any]) -> dict[str, Any]:
            kept = [one for one in document["routes"] if one["id"] != body["id"]]
            return {**document, "routes": [*kept, body]}

        return await self.changes.apply(edit, "test", "")


def configuration(upstream_port: int) -> GatewayConfig:
    config: GatewayConfig = from_document(
        {
            "version": 1,
            "services": {
                "up": {"instances": [f"127.0.0.1:{upstream_port}"]},
                "dead": {"instances": [f"127.0.0.1:{free_port()}"]},
            },
            "routes": [
                {"id": "echo", "prefix": "/echo", "service": "up"},
                {"id": "held", "path": "/held", "service": "up", "timeout": "0s"},
                {"id": "slow", "path": "/slow", "service": "up", "timeout": "50ms"},
                {"id": "dead", "path": "/dead", "service": "dead"},
                {"id": "ai", "prefix": "/ai", "service": "up", "ai": True},
                {
                    "id": "plain",
                    "prefix": "/plain",
                    "prefix_rewrite": "/ai",
                    "service": "up",
                },
            ],
            "limits": {
                "roles": {"guest": {"requests": 9, "per": "day"}},
                "max_request_bytes": 10_000,
            },
        }
    )
    return config


@asynccontextmanager
async def a_bench(
    folder: Path,
    configure: Callable[[int], GatewayConfig] = configuration,
    *,
    room: dict[str, int] | None = None,
    **changes: Any,
) -> AsyncIterator[Bench]:
    """Start all of it; `changes` are the deployment's fields, `room` is Envoy's."""
    async with AsyncExitStack() as closing:
        metrics, clock = Metrics(), SystemClock()
        upstream, gatekeeper = Upstream(), Gatekeeper()
        here = Address(host="127.0.0.1", port=0)
        http = HttpServer(upstream, here, 1.0)
        await http.start()
        closing.push_async_callback(http.stop)
        authz = GrpcServer(here, gatekeeper.methods(), metrics)
        await authz.start()
        closing.push_async_callback(authz.stop, 0.0)
        nowhere = (Address(host="127.0.0.1", port=free_port()),)
        deployment = replace(
            Deployment(
                listen=Address(host="127.0.0.1", port=free_port()),
                authz=(Address(host="127.0.0.1", port=authz.port),),
                ratelimit=nowhere,
                usage_sink=nowhere,
                control=nowhere[0],
                calls=DecisionCalls.TWO,
                log_file=str(folder / "access.jsonl"),
            ),
            **changes,
        )
        snapshots = SnapshotCache(metrics, clock, linger_s=2.0)
        ports = Ports(
            store=MemoryConfigStore(clock),
            snapshots=snapshots,
            verdict=Validator(find_envoy(None), deployment),
            rules=KeptRules(),
            clock=clock,
            metrics=metrics,
        )
        control = Changes(ports, deployment, {})
        await control.start(configure(http.port))
        discovery = DiscoveryService(snapshots)
        ads = GrpcServer(here, discovery.methods(), metrics)
        await ads.start()
        envoy = await closing.enter_async_context(
            an_envoy(folder, ads.port, **(room or {}))
        )
        client = httpx.AsyncClient(
            base_url=f"http://{deployment.listen}", timeout=DEADLINE_S, trust_env=False
        )
        bench = Bench(
            client=await closing.enter_async_context(client),
            envoy=envoy,
            changes=control,
            snapshots=snapshots,
            upstream=upstream,
            gatekeeper=gatekeeper,
            log_file=folder / "access.jsonl",
            deployment=deployment,
            ads=ads,
            discovery=discovery,
            ports=ports,
        )
        try:
            yield bench
        finally:
            bench.upstream.release.set()
            bench.discovery.stop()
            await bench.ads.stop(0.0)


class EnvoyProcess:
    """An Envoy on the repository's own bootstrap, which may die and start again."""

    def __init__(
        self, folder: Path, ads_port: int, max_heap_mb: int, max_connections: int
    ) -> None:
        self._folder = folder
        self._values = {
            "node_id": "envoy-1",
            "node_cluster": "test",
            "ads_host": "127.0.0.1",
            "ads_port": ads_port,
            "max_heap_bytes": max_heap_mb * 1024 * 1024,
            "max_connections": max_connections,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._lives = 0
        self.port = free_port()

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start another life, and wait until it serves."""
        self._lives += 1
        listen = {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}
        values = {
            **self._values,
            "incarnation": f"life-{self._lives}",
            "admin_address": json.dumps(listen),
        }
        file = self._folder / "envoy.yaml"
        file.write_text(Template(BOOTSTRAP.read_text()).substitute(values))
        binary = find_envoy(None)
        assert binary is not None
        with (self._folder / "envoy.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary,
                *("--config-path", str(file), "--disable-hot-restart"),
                *("--concurrency", "1", "--file-flush-interval-msec", "20"),
                *("--log-level", "warning"),
                stdout=log,
                stderr=log,
            )
        await self._ready()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    async def _ready(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def is_ready() -> bool:
                try:
                    answer = await client.get(f"{self.admin}/ready")
                except httpx.TransportError:
                    return False
                return answer.status_code == httpx.codes.OK

            await until(is_ready)


@asynccontextmanager
async def an_envoy(
    folder: Path, ads_port: int, max_heap_mb: int = 256, max_connections: int = 1000
) -> AsyncIterator[EnvoyProcess]:
    """A running one; at the end it runs no more."""
    envoy = EnvoyProcess(folder, ads_port, max_heap_mb, max_connections)
    try:
        await envoy.start()
        yield envoy
    finally:
        await envoy.end()
