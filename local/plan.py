"""All that is decided about a stack before its first process starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.envoy import StackRoom
from local.errors import LocalError
from local.ports import Ports
from local.settings import Settings
from local.shares import Shares
from local.state import DataDir
from runtime.contracts import DecisionCalls

#: What Envoy asks before it forwards: the modules, and what each of them is.
_DECIDERS: Mapping[DecisionCalls, Mapping[str, tuple[str, ...]]] = {
    DecisionCalls.ONE: {"sidecar": ("authz", "ratelimit")},
    DecisionCalls.TWO: {"authz": ("authz",), "ratelimit": ("ratelimit",)},
}
#: While one is replaced, its sibling answers.
_REPLICAS = 2
_DECISION_CALLS = "HUBGATE_DECISION_CALLS"
AUDIT_FILE = "HUBGATE_AUTHZ_AUDIT_FILE"
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is decided before the first process starts."""

    settings: Settings
    data: DataDir
    ports: Ports
    redis_url: str
    database_url: str
    #: Of each service that has one; with none, all use `database_url`.
    logins: Mapping[str, str] = field(default_factory=dict)

    def environ(self) -> Mapping[str, str]:
        """What every process gets; never the database owner's password."""
        given = self.settings.environ
        paths = (str(_ROOT), given.get("PYTHONPATH", ""))
        common = {
            **given,
            "HUBGATE_ENV": given.get("HUBGATE_ENV") or "development",
            # One name for Envoy and those beside it: what the ledger calls a node.
            "HUBGATE_NODE_ID": given.get("HUBGATE_NODE_ID") or "local",
            "HUBGATE_REDIS_URL": self.redis_url,
            "PYTHONPATH": ":".join(path for path in paths if path),
        }
        if self.settings.jwt_secret_file is not None:
            common["HUBGATE_JWT_SECRET_FILE"] = str(self.settings.jwt_secret_file)
        return common

    def database(self, who: str) -> dict[str, str]:
        """How `who` reaches the database."""
        if who not in self.logins:
            return {"HUBGATE_DATABASE_URL": self.database_url}
        return {"HUBGATE_DATABASE_URL": self.logins[who], "HUBGATE_MIGRATE": "false"}

    @property
    def spool(self) -> Path:
        """Where the usage sink keeps what is not in the ledger yet."""
        return self._given("HUBGATE_USAGE_SINK_SPOOL_DIR", self.data.path / "spool")

    @property
    def journal(self) -> Path:
        """Where authz notes what it lets pass, for the usage sink."""
        return self.data.path / "journal"

    @property
    def access_log(self) -> Path:
        """Envoy's own, beside what it sends to the usage sink."""
        return self.data.logs / "access.jsonl"

    @property
    def audit(self) -> str:
        """Where authz writes who asked for what; empty: its standard error."""
        file = self.data.logs / "audit.jsonl"
        return self.settings.environ.get(AUDIT_FILE, str(file))

    @property
    def archive(self) -> Path:
        """Where old days of the ledger go."""
        return self._given("HUBGATE_ARCHIVE_DIR", self.data.archive)

    def _given(self, variable: str, otherwise: Path) -> Path:
        given = self.settings.environ.get(variable)
        return Path(given).absolute() if given else otherwise

    @property
    def shares(self) -> Shares:
        return StackRoom.given(self.settings.environ).shares()

    def socket(self, name: str) -> Path:
        return self.data.run / f"{name}.sock"

    @property
    def deciders(self) -> Mapping[str, tuple[str, ...]]:
        """The modules that decide, and the services that each of them is.

        Raises:
            LocalError: the setting is none of those that there are.
        """
        given = self.settings.environ.get(_DECISION_CALLS) or DecisionCalls.ONE
        try:
            calls = DecisionCalls(given)
        except ValueError:
            known = " or ".join(DecisionCalls)
            raise LocalError(f"{_DECISION_CALLS}={given}: give {known}") from None
        return _DECIDERS[calls]

    def replicas(self, module: str) -> list[str]:
        """The names of its processes."""
        return [f"{module}-{number}" for number in range(_REPLICAS)]
