"""Which adapter goes where; only `__main__` calls it."""

import asyncio
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from control.access import Access
from control.alerting import Alerting, AlertPorts
from control.alerts_postgres import PostgresAlertStore
from control.answer_cache import AnswerCache
from control.audit_postgres import PostgresAuditLog
from control.balance import HttpBalances
from control.change_ports import Ports
from control.changes import Changes
from control.counters_redis import RedisCounters
from control.database import Database
from control.deps import Deps
from control.explain_postgres import PostgresStories
from control.export import Exporter
from control.following import Following, Registry
from control.late_exports import LateExports
from control.live import Live
from control.model import GatewayConfig
from control.nodes_postgres import PostgresNodes
from control.pace import Pace
from control.parse import ConfigRefused
from control.pseudonyms_postgres import PostgresPseudonyms
from control.registry_redis import RedisRegistryStore
from control.rules import RulesPublisher
from control.service import DiscoveryService
from control.settings import Settings
from control.store import StoreUnavailable
from control.store_postgres import PostgresConfigStore
from control.store_redis import RedisRevocations
from control.tokens import TokenIssuer
from control.usage_postgres import PostgresUsageQueries
from control.usage_totals_postgres import PostgresTotals
from control.validate import Validator, find_envoy
from control.values import UnknownVariable, substitute
from control.webhook import HttpWebhooks
from control.window_sums_postgres import PostgresWindowSums
from control.xds.cache import SnapshotCache
from runtime import redis
from runtime.clock import Clock, SystemClock
from runtime.health import Health
from runtime.identity.blacklist_redis import RedisBlacklist
from runtime.identity.jwks import FetchedKeys
from runtime.identity.verifier import Verifier
from runtime.lifecycle import wait_or_stop
from runtime.metrics import Metrics
from runtime.settings import SettingsError

RETRY_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Control:
    """A process's parts, wired."""

    deps: Deps
    discovery: DiscoveryService
    following: Following
    rules: RulesPublisher
    keys: FetchedKeys
    database: Database
    client: Redis
    file: GatewayConfig
    balances: HttpBalances
    webhooks: HttpWebhooks
    alerting: Alerting

    async def start(self, stop: asyncio.Event) -> bool:
        """Put a configuration in force; False if stopped before.

        Raises:
            SettingsError: the file can't be put in force, and nothing else is.
        """
        if not await self.database.connect(stop):
            return False
        await self.following.first(stop)
        while not stop.is_set():
            try:
                await self.deps.changes.start(self.file)
            except StoreUnavailable:
                await wait_or_stop(stop, RETRY_INTERVAL_S)
            except ConfigRefused as refused:
                raise SettingsError([str(one) for one in refused.problems]) from None
            else:
                return True
        return False

    async def close(self) -> None:
        await self.balances.aclose()
        await self.webhooks.aclose()
        await self.client.aclose()
        await self.database.close()


def build(settings: Settings, metrics: Metrics) -> Control:
    """Raises SettingsError: a file that settings name is not what it should be."""
    clock, deployment = SystemClock(), settings.deployment()
    client = redis.connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
    database = Database(
        settings.database_url,
        settings.database_timeout_s,
        clock,
        migrates=settings.migrate,
        query_timeout_s=settings.usage_query_timeout_s,
    )
    snapshots, rules = SnapshotCache(metrics, clock), RulesPublisher(client)
    ports = Ports(
        store=PostgresConfigStore(database),
        snapshots=snapshots,
        verdict=Validator(find_envoy(settings.envoy_binary), deployment),
        rules=rules,
        clock=clock,
        metrics=metrics,
    )
    changes = Changes(ports, deployment, settings.upstreams)
    registry = Registry(RedisRegistryStore(client), changes, clock, metrics)
    following = Following(changes, registry, clock)
    # Without any key only the admin token opens the usage API.
    keys = settings.key_source(clock, metrics, needs_keys=False)
    balances = _balances(settings, changes, registry)
    usage, pseudonyms = PostgresUsageQueries(database), PostgresPseudonyms(database)
    deps = Deps(
        changes=changes,
        access=_access(settings, client, clock, keys),
        usage=usage,
        totals=PostgresTotals(database),
        answers=AnswerCache(),
        audit=PostgresAuditLog(database),
        exports=LateExports(partial(_exports, database, usage, pseudonyms, settings)),
        pace=Pace(settings.usage_export_stall_s, settings.usage_export_least_rate),
        pseudonyms=pseudonyms,
        nodes=PostgresNodes(database),
        live=Live(
            counters=RedisCounters(client),
            balances=balances,
            sums=PostgresWindowSums(database),
            stories=PostgresStories(database),
            alerts=PostgresAlertStore(database),
            webhook_networks=settings.webhook_networks,
        ),
        revocations=RedisRevocations(client),
        registry=registry,
        longest_token_s=settings.longest_token_s,
        issuer=_issuer(settings),
        health=_health(database, client, changes),
        metrics=metrics,
        clock=clock,
    )
    webhooks = HttpWebhooks(settings.webhook_networks, settings.webhook_timeout_s)
    discovery = DiscoveryService(snapshots)
    return Control(
        deps,
        discovery,
        following,
        rules,
        keys,
        database,
        client,
        settings.gateway_config(),
        balances,
        webhooks,
        _alerting(deps, webhooks, settings.alert_interval_s),
    )


def _exports(
    database: Database,
    usage: PostgresUsageQueries,
    names: PostgresPseudonyms,
    settings: Settings,
) -> Exporter:
    # They load pyarrow, which most controls never need (control/late_exports.py).
    from control.export_rows_postgres import LedgerRows  # noqa: PLC0415
    from control.exports import Exports  # noqa: PLC0415

    rows = LedgerRows(database, usage, settings.archive_dir)
    return Exports(rows, names, settings.usage_exports)


def _alerting(deps: Deps, webhooks: HttpWebhooks, interval_s: float) -> Alerting:
    ports = AlertPorts(
        store=deps.live.alerts,
        sums=deps.live.sums,
        usage=deps.usage,
        webhooks=webhooks,
        clock=deps.clock,
        metrics=deps.metrics,
    )
    return Alerting(ports, interval_s)


def _access(
    settings: Settings, client: Redis, clock: Clock, keys: FetchedKeys
) -> Access:
    return Access(
        settings.admin_token(),
        Verifier(keys, settings.checks(), clock),
        RedisBlacklist(client),
        settings.jwt_leeway_s + settings.authz_allow_expired_s,
    )


def _balances(settings: Settings, changes: Changes, registry: Registry) -> HttpBalances:
    name = settings.credits_service

    def addresses() -> list[str]:
        """Of the service's instances now: declared ones, and those that registered."""
        service = changes.config.services.get(name)
        declared = [] if service is None else service.instances
        try:
            known = [substitute(one, settings.upstreams) for one in declared]
        except UnknownVariable:
            known = []
        return [*known, *(one.address for one in registry.of(name))]

    return HttpBalances(
        name, settings.credits_path, addresses, settings.credits_timeout_s
    )


def _issuer(settings: Settings) -> TokenIssuer | None:
    if settings.token_signing_key_file is None:
        return None
    return TokenIssuer(settings.token_signing_key_file.read(), settings.checks())


def _health(database: Database, client: Redis, changes: Changes) -> Health:
    async def has_configuration() -> None:
        _ = changes.revision

    health = Health()
    health.add("database", database.check)
    health.add("redis", lambda: redis.ping(client))
    health.add("configuration", has_configuration)
    return health
