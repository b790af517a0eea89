"""Envoy as a process of its own, configured by environment: `python -m local.envoy`.

For containers. The process becomes Envoy, so that a signal reaches Envoy itself.
"""

import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Annotated, Final, Self

from pydantic import Field

from local import binaries, shares
from local.errors import LocalError
from local.settings import packaged_bootstrap
from runtime.clock import Clock, SystemClock
from runtime.settings import Address, AddressField, EnvironmentModel, SettingsError

CLUSTER: Final = "hubgate"
EXIT_BAD_SETTINGS: Final = 2

#: A connection takes some 20 KB, an active stream 50 KB: a busy gateway is far below.
DEFAULT_MAX_HEAP_MB: Final = 1024
DEFAULT_MAX_CONNECTIONS: Final = 20_000

#: What may stand in the bootstrap's YAML as it is.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]


def half_the_cores() -> int:
    """Workers of an Envoy with its sidecars beside it: they need as many cores."""
    return max(1, len(shares.usable()) // 2)


class EnvoyRoom(EnvironmentModel):
    """What one Envoy may take of its machine."""

    envoy_max_heap_mb: int = Field(default=DEFAULT_MAX_HEAP_MB, ge=32, le=1_048_576)
    envoy_max_connections: int = Field(
        default=DEFAULT_MAX_CONNECTIONS, ge=1, le=10_000_000
    )
    envoy_concurrency: int = Field(default_factory=half_the_cores, ge=1, le=256)

    def placeholders(self) -> dict[str, int]:
        """As the bootstrap names it."""
        return {
            "max_heap_bytes": self.envoy_max_heap_mb * 1024 * 1024,
            "max_connections": self.envoy_max_connections,
        }


class StackRoom(EnvoyRoom):
    """The same of a stack on this machine."""

    pin_cores: bool = True
    sidecars_at_work: int | None = Field(default=None, ge=1)

    @classmethod
    def given(cls, environ: Mapping[str, str]) -> Self:
        """As the environment says.

        Raises:
            LocalError: it says it wrongly.
        """
        try:
            return cls.from_environ(environ)
        except SettingsError as error:
            raise LocalError(str(error)) from None

    def at_work(self) -> int:
        """Sidecars that are asked: with fewer cores than sidecars some stand by."""
        spare = len(shares.usable()) - self.envoy_concurrency
        return self.sidecars_at_work or max(1, spare)

    def shares(self) -> shares.Shares:
        """Of the machine; any core for everyone if they are not to be pinned."""
        if not self.pin_cores:
            return shares.Shares()
        return shares.divided(self.envoy_concurrency)


class EnvoySettings(EnvoyRoom):
    """Which Envoy, whose configuration, and where its admin listens."""

    node_id: _Name = Field(default_factory=socket.gethostname)
    ads_host: _Name = "127.0.0.1"
    ads_port: int = Field(default=18000, ge=1, le=65535)
    envoy_admin: AddressField = Address(host="127.0.0.1", port=9901)
    envoy_binary: Path | None = None
    envoy_bootstrap: Path = Field(default_factory=packaged_bootstrap)


def new_incarnation(clock: Clock) -> str:
    """Name one life of an Envoy: later ones sort behind, no two are equal."""
    return f"{int(clock.now() * 1000):013d}-{secrets.token_hex(4)}"


def admin_placeholders(address: Address) -> dict[str, str | int]:
    """Where the admin interface listens, as the bootstrap names it.

    A Unix socket is for Envoy's own user and group only: who reaches it can stop Envoy.
    """
    if address.path is not None:
        listen: object = {"pipe": {"path": address.path, "mode": 0o660}}
    else:
        listen = {
            "socket_address": {"address": address.host, "port_value": address.port}
        }
    return {
        "admin_address": json.dumps(listen),
        "admin_host": address.host,
        "admin_port": address.port,
    }


def bootstrap(template: str, settings: EnvoySettings, incarnation: str) -> str:
    """Fill in the bootstrap; a placeholder that it does not know is an error."""
    return Template(template).substitute(
        node_id=settings.node_id,
        node_cluster=CLUSTER,
        incarnation=incarnation,
        **admin_placeholders(settings.envoy_admin),
        ads_host=settings.ads_host,
        ads_port=settings.ads_port,
        **settings.placeholders(),
    )


def argv(binary: Path, settings: EnvoySettings, configuration: str) -> list[str]:
    """Envoy's command line; the configuration travels in it and leaves no file."""
    return [
        str(binary),
        "--config-yaml",
        configuration,
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        "200",
        "--concurrency",
        str(settings.envoy_concurrency),
    ]


def main() -> None:
    """Become Envoy."""
    try:
        # An entry point, like local/cli.py: nothing else reads this environment.
        settings = EnvoySettings.from_environ(os.environ)  # noqa: TID251
        binary = settings.envoy_binary or binaries.envoy()
        configuration = bootstrap(
            settings.envoy_bootstrap.read_text(),
            settings,
            new_incarnation(SystemClock()),
        )
    except (SettingsError, LocalError, OSError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_BAD_SETTINGS)
    os.execv(binary, argv(binary, settings, configuration))  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
