"""Where the parts of this installation are, as the builders need to know it."""

from dataclasses import dataclass
from enum import StrEnum

from runtime.settings import Address


class LogTransport(StrEnum):
    """How Envoy sends the access log to usage_sink."""

    OTLP = "otlp"
    ALS = "als"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What comes from the environment, not from the document."""

    listen: Address
    authz: tuple[Address, ...]
    ratelimit: tuple[Address, ...]
    usage_sink: tuple[Address, ...]
    control: Address
    log_transport: LogTransport = LogTransport.OTLP
    log_file: str | None = None
