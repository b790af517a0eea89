"""Parts of control for its tests: the real things over memory twins."""

from dataclasses import dataclass, field
from typing import Any

from control.access import Access
from control.alert_store import MemoryAlertStore
from control.answer_cache import AnswerCache
from control.audit import MemoryAuditLog
from control.balance import MemoryBalances
from control.change_ports import Ports
from control.changes import Changes
from control.counters import MemoryCounters
from control.deps import Deps
from control.explain import MemoryStories
from control.export_rows import MemoryExportRows
from control.exports import Exports
from control.following import Registry
from control.live import Live
from control.model import GatewayConfig
from control.nodes import MemoryNodes
from control.pace import Pace
from control.parse import from_document
from control.pseudonyms import MemoryPseudonyms
from control.registry import MemoryRegistryStore
from control.store import MemoryConfigStore, MemoryRevocations, MemoryUsageQueries
from control.tokens import TokenIssuer
from control.usage_totals import MemoryTotals
from control.validate import Refused
from control.window_sums import MemoryWindowSums
from control.xds.cache import SnapshotCache
from control.xds.deployment import Deployment
from control.xds.snapshot import Snapshot
from runtime.clock import FakeClock
from runtime.contracts import DecisionCalls
from runtime.health import Health
from runtime.identity.blacklist import MemoryBlacklist
from runtime.identity.tokens import Checks
from runtime.metrics import Metrics
from runtime.settings import Address
from tests.builders import NOW, SECRET, a_verifier

ADMIN_TOKEN = "the-admin-token-of-a-test"

SOCKET = (Address(path="/nowhere/x.sock"),)
DEPLOYMENT = Deployment(
    listen=Address(host="127.0.0.1", port=3000),
    authz=SOCKET,
    ratelimit=SOCKET,
    usage_sink=SOCKET,
    control=Address(host="127.0.0.1", port=8000),
    calls=DecisionCalls.TWO,
)


class PatientVerdict:
    """Stands for an Envoy that accepts everything but what it is told to refuse."""

    def __init__(self) -> None:
        self.refusal: str | None = None

    async def check(self, snapshot: Snapshot, config: GatewayConfig) -> Refused | None:
        return None if self.refusal is None else Refused(self.refusal)


class KeptRules:
    """Remembers what was handed out."""

    def __init__(self) -> None:
        self.published: list[GatewayConfig] = []

    async def publish(self, config: GatewayConfig) -> None:
        self.published.append(config)


def a_config(*routes: dict[str, Any], **services: dict[str, Any]) -> GatewayConfig:
    """A valid document; routes go to `core` unless they say else."""
    config: GatewayConfig = from_document(
        {
            "version": 1,
            "services": services or {"core": {"instances": ["127.0.0.1:1"]}},
            "routes": [{"service": "core", **one} for one in routes],
        }
    )
    return config


@dataclass
class Parts:
    """A control without processes around it."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    metrics: Metrics = field(default_factory=Metrics)
    instances: MemoryRegistryStore = field(default_factory=MemoryRegistryStore)
    verdict: PatientVerdict = field(default_factory=PatientVerdict)
    rules: KeptRules = field(default_factory=KeptRules)
    blacklist: MemoryBlacklist = field(default_factory=MemoryBlacklist)
    usage: MemoryUsageQueries = field(default_factory=MemoryUsageQueries)
    totals: MemoryTotals = field(default_factory=MemoryTotals)
    counters: MemoryCounters = field(default_factory=MemoryCounters)
    balances: MemoryBalances = field(default_factory=MemoryBalances)
    sums: MemoryWindowSums = field(default_factory=MemoryWindowSums)
    stories: MemoryStories = field(default_factory=MemoryStories)
    revocations: MemoryRevocations = field(default_factory=MemoryRevocations)
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.alerts = MemoryAlertStore(self.clock)
        self.store = MemoryConfigStore(self.clock)
        self.audit = MemoryAuditLog(self.clock)
        self.pseudonyms = MemoryPseudonyms(self.clock)
        self.nodes = MemoryNodes(self.usage, self.audit, self.clock)
        self.exported = MemoryExportRows(self.usage)
        self.snapshots = SnapshotCache(self.metrics, self.clock)
        self.changes = self.new_changes()

    def new_changes(self) -> Changes:
        """As after a restart of control: the same stores, nothing in force."""
        ports = Ports(
            store=self.store,
            snapshots=self.snapshots,
            verdict=self.verdict,
            rules=self.rules,
            clock=self.clock,
            metrics=self.metrics,
        )
        return Changes(ports, DEPLOYMENT, {})

    def live(self) -> Live:
        return Live(
            counters=self.counters,
            balances=self.balances,
            sums=self.sums,
            stories=self.stories,
            alerts=self.alerts,
        )

    def deps(self, *, signs: bool = True) -> Deps:
        return Deps(
            changes=self.changes,
            access=Access(ADMIN_TOKEN, a_verifier(self.clock), self.blacklist),
            usage=self.usage,
            totals=self.totals,
            answers=AnswerCache(),
            audit=self.audit,
            exports=Exports(self.exported, self.pseudonyms),
            pace=Pace(),
            pseudonyms=self.pseudonyms,
            nodes=self.nodes,
            live=self.live(),
            revocations=self.revocations,
            registry=Registry(self.instances, self.changes, self.clock, self.metrics),
            longest_token_s=3600,
            issuer=TokenIssuer(SECRET, Checks()) if signs else None,
            health=self.health,
            metrics=self.metrics,
            clock=self.clock,
        )
