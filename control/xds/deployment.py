"""Where the parts of this installation are, as the builders need to know it."""

from dataclasses import dataclass
from enum import StrEnum

from runtime.contracts import DecisionCalls
from runtime.settings import Address


class LogTransport(StrEnum):
    """How Envoy sends the access log to usage_sink."""

    OTLP = "otlp"
    ALS = "als"


class OnAuthzDown(StrEnum):
    """What becomes of a WebSocket whose authz process is gone."""

    #: It is closed; the client connects again and is checked again.
    CLOSE = "close"
    #: It stays, and outlives its token.
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What comes from the environment, not from the document."""

    listen: Address
    authz: tuple[Address, ...]
    ratelimit: tuple[Address, ...]
    usage_sink: tuple[Address, ...]
    control: Address
    calls: DecisionCalls
    websocket_on_authz_down: OnAuthzDown = OnAuthzDown.CLOSE
    log_transport: LogTransport = LogTransport.OTLP
    log_file: str | None = None
    #: Processes of authz and ratelimit that are asked while they are well; the others
    #: stand by. None: all are asked.
    sidecars_at_work: int | None = None

    @property
    def asked_first(self) -> int | None:
        """Of these processes; None: all, since none would stand by."""
        at_work = self.sidecars_at_work
        return None if at_work is None or at_work >= len(self.authz) else at_work
