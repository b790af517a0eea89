"""Services: where requests may go, and when an instance gets none."""

from pydantic import Field, field_validator

from control.values import Duration, InstanceText, IpAddress, Part, Path, seconds

_MAX_CHECK_S = 300.0


def _positive(value: str) -> str:
    if not 0 < seconds(value) <= _MAX_CHECK_S:
        raise ValueError(f"give more than 0 and at most {_MAX_CHECK_S:g}s")
    return value


class HealthCheck(Part):
    """Envoy asks each instance; only 200 is healthy."""

    path: Path
    interval: Duration = "2s"
    timeout: Duration = "1s"
    unhealthy_after: int = Field(default=2, ge=1, le=20)
    healthy_after: int = Field(default=1, ge=1, le=20)

    @field_validator("interval", "timeout")
    @classmethod
    def _is_positive(cls, value: str) -> str:
        return _positive(value)


class Ejection(Part):
    """An instance that fails real requests gets none for a while.

    `failures` in a row: refused or broken connections, and answers 502, 503, 504.
    """

    failures: int = Field(default=5, ge=1, le=1000)
    ejected_for: Duration = "10s"
    max_percent: int = Field(default=50, ge=1, le=100)

    @field_validator("ejected_for")
    @classmethod
    def _is_positive(cls, value: str) -> str:
        return _positive(value)


class Breaker(Part):
    """What one Envoy asks of a service at most, at a time; more gets 503 at once."""

    connections: int = Field(default=8192, ge=1, le=1_000_000)
    pending: int = Field(default=8192, ge=1, le=1_000_000)
    requests: int = Field(default=8192, ge=1, le=1_000_000)


class Service(Part):
    """Addresses, DNS names, or none: then its instances register themselves."""

    instances: tuple[InstanceText, ...] = Field(default=(), max_length=1000)
    connect_timeout: Duration = "1s"
    health_check: HealthCheck | None = None
    ejection: Ejection | None = Ejection()
    breaker: Breaker = Breaker()
    #: Its `x-usage-…` answer headers are believed. Switch it off for providers that are
    #: not yours: they would name their own price.
    usage_headers: bool = True

    @field_validator("connect_timeout")
    @classmethod
    def _connects_in_time(cls, value: str) -> str:
        if not 0 < seconds(value) <= 60:  # noqa: PLR2004 - a minute
            raise ValueError("give more than 0 and at most 60s")
        return value


class Registering(Part):
    """What an instance says of itself; heard again within `ttl_s`, it stays."""

    address: IpAddress
    ttl_s: int = Field(default=15, ge=2, le=3600)
