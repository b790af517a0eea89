"""The command line and environment of every process of a stack but the engines."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from string import Template

from local import binaries, probes
from local.child import Spec
from local.envoy import CLUSTER, StackRoom, admin_placeholders, new_incarnation
from local.files import write_private
from local.plan import AUDIT_FILE, Plan
from local.settings import packaged_bootstrap
from runtime.clock import SystemClock
from runtime.settings import Address

UPSTREAMS = ("auth", "core", "mcp")
_LOOPBACK = "127.0.0.1"
#: Envoy's access log is flushed every 0.2 s; what is pending at TERM would be lost.
_ACCESS_LOG_FLUSH_S = 0.6
#: With it, days of the ledger that are older go to Parquet files.
_KEEP_DAYS = "HUBGATE_LEDGER_KEEP_DAYS"
_ARCHIVE_EVERY_S = "3600"


def keepers(plan: Plan) -> list[Spec]:
    """Those that write to the ledger."""
    specs = [_usage_sink(plan)]
    if plan.settings.environ.get(_KEEP_DAYS):
        specs.append(_archiver(plan))
    return specs


def deciders(plan: Plan) -> list[Spec]:
    """Those that need no database and, with the demo, its upstreams."""
    specs = [
        _decider(plan, module, name)
        for module in plan.deciders
        for name in plan.replicas(module)
    ]
    if plan.settings.demo:
        specs.extend(_upstream(plan, name) for name in UPSTREAMS)
    return specs


def envoy(plan: Plan) -> Spec:
    """Envoy; ready when a request passes through the gateway."""
    ports = plan.ports
    bootstrap = plan.data.path / "envoy.yaml"
    room = StackRoom.given(plan.settings.environ)
    values = {
        "node_id": plan.environ()["HUBGATE_NODE_ID"],
        "node_cluster": CLUSTER,
        **admin_placeholders(Address(host=_LOOPBACK, port=ports.envoy_admin)),
        "ads_host": _LOOPBACK,
        "ads_port": ports.ads,
        **room.placeholders(),
    }
    template = Template(packaged_bootstrap().read_text())
    admin = (_LOOPBACK, ports.envoy_admin)

    async def ready() -> None:
        await probes.answers(admin, "/ready")
        await probes.answers((plan.settings.reachable_host, ports.gateway), "/health")

    async def prepare() -> None:
        # At every start: each life of Envoy has a name of its own.
        life = new_incarnation(SystemClock())
        filled = template.substitute(values, incarnation=life)
        write_private(bootstrap, filled.encode())

    async def drain() -> None:
        await probes.request("POST", admin, "/drain_listeners?graceful")
        await asyncio.sleep(_ACCESS_LOG_FLUSH_S)

    return Spec(
        name="envoy",
        kinds=("envoy",),
        argv=(
            *(str(binaries.envoy()), "-c", str(bootstrap)),
            # Hot restart would tie Envoy's life to the thread that started it.
            *("--disable-hot-restart", "--file-flush-interval-msec", "200"),
            *("--concurrency", str(room.envoy_concurrency), "-l", "warning"),
            # What it says of fields that we use on purpose, at every start.
            *("--component-log-level", "misc:error"),
        ),
        ready=ready,
        prepare=prepare,
        before_stop=drain,
        stop_timeout_s=5.0,
        share=room.shares().envoy,
    )


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: the caller's folder may hold anything, also a module of that name.
    return (sys.executable, "-P", "-m", module, *arguments)


def _usage_sink(plan: Plan) -> Spec:
    env = {
        **plan.database("usage_sink"),
        "HUBGATE_USAGE_SINK_SPOOL_DIR": str(plan.spool),
        "HUBGATE_AUTHZ_JOURNAL_DIR": str(plan.journal),
        "HUBGATE_ACCESS_LOG_FILE": str(plan.access_log),
        "HUBGATE_ENVOY_ADMIN": f"{_LOOPBACK}:{plan.ports.envoy_admin}",
        "HUBGATE_USAGE_INGEST_LISTEN": f"unix:{plan.socket('ingest')}",
        "HUBGATE_USAGE_INGEST_TOKEN_FILE": str(plan.data.ingest_token),
    }
    spec = _service(plan, "usage_sink", "usage_sink", ("usage_sink",), env)
    return replace(spec, share=plan.shares.ledger)


def _archiver(plan: Plan) -> Spec:
    return Spec(
        name="archiver",
        kinds=("archiver",),
        argv=_python("usage_sink.tools", "archive", "--every", _ARCHIVE_EVERY_S),
        env={**plan.database("archive"), "HUBGATE_ARCHIVE_DIR": str(plan.archive)},
        ready=_at_once,
        share=plan.shares.ledger,
    )


async def _at_once() -> None:
    """Nothing waits for it."""


def _decider(plan: Plan, module: str, name: str) -> Spec:
    kinds, env = plan.deciders[module], {}
    if "authz" in kinds:
        env["HUBGATE_AUTHZ_JOURNAL_DIR"] = str(plan.journal)
        env[AUDIT_FILE] = plan.audit
    spec = _service(plan, module, name, kinds, env)
    return replace(spec, share=plan.shares.deciders)


def _service(
    plan: Plan, module: str, name: str, kinds: tuple[str, ...], env: Mapping[str, str]
) -> Spec:
    listen, ops = plan.socket(name), plan.socket(f"{name}-ops")

    async def prepare() -> None:
        listen.unlink(missing_ok=True)
        ops.unlink(missing_ok=True)

    return Spec(
        name=name,
        kinds=kinds,
        argv=_python(module),
        env={
            **env,
            f"HUBGATE_{module.upper()}_LISTEN": f"unix:{listen}",
            "HUBGATE_OPS_LISTEN": f"unix:{ops}",
        },
        prepare=prepare,
        ready=lambda: probes.answers(ops, "/health/ready"),
        alive=lambda: probes.answers(ops, "/health"),
    )


def control(plan: Plan) -> Spec:
    ports, settings = plan.ports, plan.settings
    room = StackRoom.given(settings.environ)
    http = (_LOOPBACK, ports.control)
    env = {
        **plan.database("control"),
        "HUBGATE_CONTROL_LISTEN": f"{_LOOPBACK}:{ports.control}",
        "HUBGATE_CONTROL_UPSTREAM": f"{_LOOPBACK}:{ports.control}",
        "HUBGATE_ADS_LISTEN": f"{_LOOPBACK}:{ports.ads}",
        "HUBGATE_GATEWAY_LISTEN": f"{settings.host}:{ports.gateway}",
        "HUBGATE_ARCHIVE_DIR": str(plan.archive),
        "HUBGATE_CONFIG_FILE": str(settings.config),
        "HUBGATE_ADMIN_TOKEN_FILE": str(plan.data.admin_token),
        "HUBGATE_SIDECARS_AT_WORK": str(room.at_work()),
        "HUBGATE_USAGE_SINK_ADDRESSES": f"unix:{plan.socket('usage_sink')}",
        "HUBGATE_ACCESS_LOG_FILE": str(plan.access_log),
        "HUBGATE_ENVOY_BINARY": str(binaries.envoy()),
        "HUBGATE_OPS_LISTEN": "",
        # On one machine, who is told of alerts is on it, too.
        "HUBGATE_WEBHOOK_NETWORKS": settings.environ.get("HUBGATE_WEBHOOK_NETWORKS")
        or "127.0.0.0/8,::1/128",
    }
    for module, kinds in plan.deciders.items():
        sockets = map(plan.socket, plan.replicas(module))
        addresses = ",".join(f"unix:{socket}" for socket in sockets)
        for kind in kinds:
            env[f"HUBGATE_{kind.upper()}_ADDRESSES"] = addresses
    if settings.jwt_secret_file is not None:
        env["HUBGATE_TOKEN_SIGNING_KEY_FILE"] = str(settings.jwt_secret_file)
    if settings.demo:
        for name in UPSTREAMS:
            address = f"{_LOOPBACK}:{getattr(ports, name)}"
            env[f"HUBGATE_UPSTREAM_{name.upper()}"] = address
    return Spec(
        name="control",
        kinds=("control",),
        argv=_python("control"),
        env=env,
        ready=lambda: probes.answers(http, "/health/ready"),
        alive=lambda: probes.answers(http, "/health"),
    )


def _upstream(plan: Plan, name: str) -> Spec:
    port: int = getattr(plan.ports, name)
    return Spec(
        name=f"demo-{name}",
        kinds=("upstreams",),
        argv=_python("local.demo", name),
        env={"HUBGATE_DEMO_LISTEN": f"{_LOOPBACK}:{port}", "HUBGATE_OPS_LISTEN": ""},
        ready=lambda: probes.connects(_LOOPBACK, port),
    )
