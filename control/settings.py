"""What control reads from the environment."""

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationInfo, field_validator

from control.model import GatewayConfig
from control.pace import DEFAULT_LEAST_RATE, DEFAULT_STALL_S
from control.parse import ConfigRefused, parse
from control.tokens import MAX_TTL_S
from control.xds.deployment import Deployment, LogTransport, OnAuthzDown
from runtime.contracts import DecisionCalls
from runtime.identity.settings import IdentitySettings
from runtime.settings import (
    Address,
    AddressField,
    PostgresSettings,
    RedisSettings,
    SecretFileField,
    ServiceSettings,
    SettingsError,
)

_UPSTREAMS = "HUBGATE_UPSTREAM_"
MIN_ADMIN_TOKEN_CHARACTERS = 16


class Settings(ServiceSettings, RedisSettings, PostgresSettings, IdentitySettings):
    """Control's own, and what it shares with every process."""

    control_listen: AddressField = Address(host="127.0.0.1", port=8000)
    ads_listen: AddressField = Address(host="127.0.0.1", port=18000)
    config_file: Path = Path("gateway.yaml")
    admin_token_file: SecretFileField
    token_signing_key_file: SecretFileField | None = None
    gateway_listen: AddressField = Address(host="0.0.0.0", port=3000)  # noqa: S104 - it is the public door
    authz_addresses: tuple[AddressField, ...] = Field(min_length=1)
    ratelimit_addresses: tuple[AddressField, ...] = Field(min_length=1)
    usage_sink_addresses: tuple[AddressField, ...] = Field(min_length=1)
    #: Whether Envoy asks authz and ratelimit in one call.
    decision_calls: DecisionCalls = Field(
        default=DecisionCalls.ONE, validate_default=True
    )
    #: Of those processes so many are asked, the others when those are not well.
    sidecars_at_work: int | None = Field(default=None, ge=1)
    control_upstream: AddressField = Address(host="127.0.0.1", port=8000)
    #: A user's revocation is kept for so long: no issuer's tokens may live longer.
    longest_token_s: int = Field(default=MAX_TTL_S, ge=60, le=10 * MAX_TTL_S)
    #: What Envoy does with a WebSocket that no authz process watches any more.
    websocket_on_authz_down: OnAuthzDown = OnAuthzDown.CLOSE
    access_log_transport: LogTransport = LogTransport.OTLP
    access_log_file: str | None = None
    #: How often alert rules are evaluated; where they may be told of, beside public
    #: addresses; and how long a webhook may take.
    alert_interval_s: float = Field(default=15.0, ge=1, le=3600)
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    webhook_timeout_s: float = Field(default=5.0, gt=0, le=60)
    #: Who keeps the users' balances, and how long their answer is waited for.
    credits_service: str = "core-service"
    credits_path: str = Field(default="/api/credits/balance", pattern=r"^/[!-~]*$")
    credits_timeout_s: float = Field(default=0.5, gt=0, le=10)
    envoy_binary: Path | None = None
    #: A question about the ledger that takes longer is stopped.
    usage_query_timeout_s: float = Field(default=5.0, gt=0, le=300)
    #: Exports that may run at once.
    usage_exports: int = Field(default=4, ge=1, le=100)
    #: Who reads one falls behind this rate (bytes/s) by so many seconds at most.
    usage_export_stall_s: float = Field(default=DEFAULT_STALL_S, gt=0, le=3600)
    usage_export_least_rate: int = Field(default=DEFAULT_LEAST_RATE, ge=1)
    #: Where exports find the days that are archived.
    archive_dir: Path | None = None
    upstreams: dict[str, str] = Field(default_factory=dict)

    @field_validator("decision_calls")
    @classmethod
    def _one_process_answers_both(
        cls, calls: DecisionCalls, info: ValidationInfo
    ) -> DecisionCalls:
        authz, ratelimit = (
            info.data.get(f"{name}_addresses") for name in ("authz", "ratelimit")
        )
        if calls is DecisionCalls.ONE and authz != ratelimit:
            raise ValueError(
                "with one call HUBGATE_AUTHZ_ADDRESSES and"
                " HUBGATE_RATELIMIT_ADDRESSES are the same (python -m sidecar); give"
                " two where authz and ratelimit are processes of their own"
            )
        return calls

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read what control needs; raises SettingsError naming every bad variable."""
        read = super().from_environ(environ)
        variables = {
            key: value for key, value in environ.items() if key.startswith(_UPSTREAMS)
        }
        return read.model_copy(update={"upstreams": variables})

    def deployment(self) -> Deployment:
        return Deployment(
            listen=self.gateway_listen,
            authz=self.authz_addresses,
            ratelimit=self.ratelimit_addresses,
            usage_sink=self.usage_sink_addresses,
            control=self.control_upstream,
            calls=self.decision_calls,
            websocket_on_authz_down=self.websocket_on_authz_down,
            log_transport=self.access_log_transport,
            log_file=self.access_log_file,
            sidecars_at_work=self.sidecars_at_work,
        )

    def admin_token(self) -> str:
        """Raises SettingsError: the file's content is no token."""
        token = self.admin_token_file.text()
        if len(token) < MIN_ADMIN_TOKEN_CHARACTERS:
            least = MIN_ADMIN_TOKEN_CHARACTERS
            raise SettingsError(
                [f"HUBGATE_ADMIN_TOKEN_FILE: give at least {least} characters"]
            )
        return token

    def gateway_config(self) -> GatewayConfig:
        """Raises SettingsError: with every problem of the file."""
        try:
            return parse(self.config_file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError([f"HUBGATE_CONFIG_FILE: {error}"]) from None
        except ConfigRefused as refused:
            raise SettingsError(
                [f"{self.config_file}: {one}" for one in refused.problems]
            ) from None


def load() -> Settings:
    """From this process's environment; raises SettingsError."""
    return Settings.from_environ(os.environ)
