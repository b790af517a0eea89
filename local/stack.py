"""One whole stack: from a data directory to the ready line, and back to nothing."""

import asyncio
import contextlib
import os
import resource
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from local import logins, ports, postgres, services, valkey, watchdog
from local.client import ControlClient
from local.console import Console, Style
from local.engines import ping_redis, postgres_spec, valkey_spec
from local.errors import LocalError
from local.files import kept_secret
from local.guard import Guard
from local.plan import Plan
from local.processes import Supervisor
from local.settings import Settings
from local.signals import signals, unless
from local.state import DataDir, Lock, write_state
from local.together import side_by_side

DEMO_ROLES = ("user", "manager", "admin")
DEMO_TOKEN_TTL_S = 24 * 3600
KINDS = ("envoy", "authz", "ratelimit", "usage_sink", "control", "redis", "postgres")
_SECRET_BYTES = 48
_EXTERNAL_DEADLINE_S = 10.0
_EXIT_KILLED = 130
#: Envoy holds two descriptors for each connection.
_OPEN_FILES = 65_536

#: Layers: what is below is there for longer.
_ENGINES, _SERVICES, _GATEWAY = range(3)

Show = Callable[[dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class _Engines:
    """Those of our own; a server that was given is used as it is."""

    valkey: valkey.Server | None
    cluster: postgres.Cluster | None


async def run(settings: Settings, show: Show) -> None:
    """Start everything, say so, and stop everything at a signal.

    Raises:
        LocalError: it could not start; whatever had started is stopped again.
    """
    settings.check()
    _raise_open_files()
    console = Console(_style(settings))
    stack = Stack(settings, console)
    try:
        async with signals(stack.kill) as stop:
            try:
                ready = await unless(stop, stack.start())
                if ready is not None:
                    console.ready(show(ready))
                    await stop.wait()
            finally:
                console.note("stopping")
                await stack.stop()
    finally:
        console.close()


def _style(settings: Settings) -> Style:
    if settings.json:
        return Style.JSON
    return Style.COLOUR if settings.colour else Style.PLAIN


class Stack:
    """The processes of one data directory."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._data = DataDir(settings.data_dir)
        self._id = secrets.token_hex(8)
        self._console = console
        self._lock = Lock(self._data, self._id)
        self._guard = Guard(self._id)
        self._supervisor: Supervisor | None = None
        self._facts: dict[str, Any] = {}

    async def start(self) -> dict[str, Any]:
        """Give the content of the ready line."""
        self._data.create()
        previous = self._lock.take()
        if previous is not None:
            self._console.note("an earlier stack here was killed: clearing up")
            await asyncio.to_thread(watchdog.sweep, previous)
        await self._guard.start()
        settings = self._settings
        chosen = ports.choose(settings.ports, host=settings.host, demo=settings.demo)
        admin_token = self._make_secrets()
        engines, plan = await self._plan(chosen)
        supervisor = self._supervisor = Supervisor(
            stack=self._id,
            environ=plan.environ(),
            console=self._console,
            logs=self._data.logs,
            on_change=self._publish,
        )
        # Each of the two waits for what it needs; the machine has work meanwhile.
        await side_by_side(
            self._start_deciders(supervisor, plan, engines.valkey),
            self._start_keepers(supervisor, plan, engines.cluster),
        )
        await supervisor.start([services.envoy(plan)], _GATEWAY)
        self._facts = _facts(plan, admin_token)
        if engines.valkey is not None:  # a person's tools want an address
            self._facts["redis_url"] = engines.valkey.url
        if settings.demo:
            control = ControlClient(self._facts["control"], admin_token)
            self._facts["tokens"] = await asyncio.to_thread(_demo_tokens, control)
        self._publish()
        return self._facts

    async def stop(self) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._guard.stop()
        self._lock.release()

    def kill(self) -> None:
        """End now; the watchdog ends what this misses."""
        if self._supervisor is not None:
            self._supervisor.kill()
        os._exit(_EXIT_KILLED)

    def _make_secrets(self) -> str:
        given = self._settings.environ.get("HUBGATE_JWT_SECRET_FILE")
        secret_file = self._settings.jwt_secret_file
        if secret_file is not None and not given:
            kept_secret(secret_file, _raw_secret)
        kept_secret(self._data.ingest_token, _token)
        return kept_secret(self._data.admin_token, _token).decode().strip()

    async def _start_deciders(
        self, supervisor: Supervisor, plan: Plan, server: valkey.Server | None
    ) -> None:
        if server is not None:
            spec = valkey_spec(server, plan.shares.deciders)
            await supervisor.start([spec], _ENGINES)
        else:
            await _reachable(ping_redis(plan.redis_url), "HUBGATE_REDIS_URL")
        await supervisor.start(services.deciders(plan), _SERVICES)

    async def _start_keepers(
        self, supervisor: Supervisor, plan: Plan, cluster: postgres.Cluster | None
    ) -> None:
        if cluster is not None:
            await asyncio.to_thread(postgres.create, cluster)
            spec = postgres_spec(
                cluster, plan.ports.postgres, self._id, share=plan.shares.ledger
            )
            await supervisor.start([spec], _ENGINES)
        else:
            check = postgres.check(plan.database_url)
            await _reachable(check, "HUBGATE_DATABASE_URL")
            self._console.note(
                "the database was given: one role for all services, the owner's rights"
                " too (docs/ledger.md says how to give each its own)"
            )

        async def keep() -> None:
            if plan.logins:
                files = logins.password_files(plan.data.path)
                await logins.migrate(plan.database_url, files, plan.environ())
            await supervisor.start(services.keepers(plan), _SERVICES)

        # Control takes longest to load, and waits for its tables by itself.
        control = supervisor.start([services.control(plan)], _SERVICES)
        await side_by_side(control, keep())

    async def _plan(self, chosen: ports.Ports) -> tuple[_Engines, Plan]:
        """Engines of our own where none was given."""
        settings, path = self._settings, self._data.path
        redis_url, database_url = settings.redis_url, settings.database_url
        own_logins: dict[str, str] = {}
        server, cluster = None, None
        if redis_url is None:
            socket = self._data.run / "redis.sock"
            server = valkey.prepare(path / "redis", chosen.redis, socket)
            redis_url = server.nearest_url
        if database_url is None:
            cluster = await asyncio.to_thread(postgres.place, path / "postgres")
            database_url = cluster.url(chosen.postgres)
            own_logins = logins.urls(database_url, logins.password_files(path))
        plan = Plan(
            settings=settings,
            data=self._data,
            ports=chosen,
            redis_url=redis_url,
            database_url=database_url,
            logins=own_logins,
        )
        return _Engines(server, cluster), plan

    def _publish(self) -> None:
        """Write down what is true now, for `hubgate token` and the like."""
        if self._facts and self._supervisor is not None:
            pids = self._supervisor.pids()
            kinds = (*KINDS, *(kind for kind in pids if kind not in KINDS))
            self._facts["pids"] = {kind: pids.get(kind, []) for kind in kinds}
            with contextlib.suppress(OSError):
                write_state(self._data, self._facts)


def _facts(plan: Plan, admin_token: str) -> dict[str, Any]:
    host = plan.settings.reachable_host
    return {
        "event": "ready",
        "gateway": f"http://{host}:{plan.ports.gateway}",
        "control": f"http://127.0.0.1:{plan.ports.control}",
        "envoy_admin": f"http://127.0.0.1:{plan.ports.envoy_admin}",
        "redis_url": plan.redis_url,
        "database_url": plan.database_url,
        "admin_token": admin_token,
        "usage_ingest": f"unix:{plan.socket('ingest')}",
        "usage_ingest_token_file": str(plan.data.ingest_token),
        "audit_file": plan.audit,
        "spool_dir": str(plan.spool),
        "archive_dir": str(plan.archive),
        "pids": {},
        "data_dir": str(plan.data.path),
    }


def _demo_tokens(control: ControlClient) -> dict[str, str]:
    return {
        role: control.token(f"demo-{role}", role, DEMO_TOKEN_TTL_S)
        for role in DEMO_ROLES
    }


def _token() -> bytes:
    return secrets.token_urlsafe(32).encode()


def _raw_secret() -> bytes:
    secret = secrets.token_bytes(_SECRET_BYTES)
    # Readers of secret files drop a final newline, which an editor may have added.
    return secret if secret.strip() == secret else _raw_secret()


async def _reachable(check: Awaitable[None], variable: str) -> None:
    try:
        async with asyncio.timeout(_EXTERNAL_DEADLINE_S):
            await check
    except Exception as error:
        raise LocalError(
            f"the server of {variable} does not answer ({error}): correct it, or unset"
            " it to use the embedded one"
        ) from error


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
