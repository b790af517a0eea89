"""What a change of the configuration needs from outside."""

from dataclasses import dataclass
from typing import Protocol

from control.model import GatewayConfig
from control.store import ConfigStore
from control.validate import Refused
from control.xds.cache import SnapshotCache
from control.xds.snapshot import Snapshot
from runtime.clock import Clock
from runtime.metrics import Metrics


class Verdict(Protocol):
    """`validate.Validator`, or less of it in a test."""

    async def check(self, snapshot: Snapshot, config: GatewayConfig) -> Refused | None:
        """None when Envoy would accept it."""


class Rules(Protocol):
    """`rules.RulesPublisher`."""

    async def publish(self, config: GatewayConfig) -> None:
        """Hand the sidecars their rules; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a change needs from outside."""

    store: ConfigStore
    snapshots: SnapshotCache
    verdict: Verdict
    rules: Rules
    clock: Clock
    metrics: Metrics
