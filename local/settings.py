"""What `hubgate up` was asked for, and what the environment adds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.errors import LocalError
from runtime.contracts import KEY_VARIABLES

DEFAULT_DATA_DIR = Path(".hubgate")
_DEFAULT_CONFIG = Path("gateway.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortChoice:
    """Ports as given; None: the default, or a free one when `gateway` is 0."""

    gateway: int = 3000
    control: int | None = None
    ads: int | None = None
    envoy_admin: int | None = None
    upstream: int | None = None  # the first of three


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One stack."""

    data_dir: Path
    config: Path
    demo: bool = False
    json: bool = False
    host: str = "127.0.0.1"
    ports: PortChoice = field(default_factory=PortChoice)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def redis_url(self) -> str | None:
        return self.environ.get("HUBGATE_REDIS_URL") or None

    @property
    def database_url(self) -> str | None:
        return self.environ.get("HUBGATE_DATABASE_URL") or None

    @property
    def jwt_secret_file(self) -> Path | None:
        """The key of the demo, or of HMAC tokens."""
        given = self.environ.get("HUBGATE_JWT_SECRET_FILE")
        if given:
            return Path(given).absolute()
        return self.data_dir / "jwt.secret" if self.demo else None

    @property
    def reachable_host(self) -> str:
        """Where a client on this machine finds the gateway."""
        return "127.0.0.1" if self.host in {"0.0.0.0", ""} else self.host  # noqa: S104 - compared, not bound

    @property
    def colour(self) -> bool:
        return not self.environ.get("NO_COLOR") and os.isatty(1)

    def check(self) -> None:
        """Refuse what cannot work, with the remedy.

        Raises:
            LocalError: no key to verify tokens with, or no configuration.
        """
        if not self.demo and not any(self.environ.get(v) for v in KEY_VARIABLES):
            *others, last = KEY_VARIABLES
            raise LocalError(
                f"no key to verify tokens with: set {', '.join(others)} or {last},"
                " or try `hubgate up --demo`, which makes its own"
            )
        if not self.config.is_file():
            raise LocalError(f"{self.config}: no such file; give one with --config")


def find_config(given: Path | None) -> Path:
    """The given file, or `gateway.yaml` here, or the one that comes with hubgate."""
    if given is not None:
        return given.absolute()
    if _DEFAULT_CONFIG.is_file():
        return _DEFAULT_CONFIG.absolute()
    return Path(__file__).with_name("gateway.yaml")


def packaged_bootstrap() -> Path:
    """Envoy's bootstrap template that comes with hubgate."""
    return Path(__file__).with_name("bootstrap.yaml")
