"""The embedded Valkey: its configuration, in the data directory."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from local import binaries
from local.files import kept_secret, write_private

# Its title would overwrite the environment, in which the watchdog looks for the
# stack's marker. The password is for other users of this machine: loopback is theirs
# too; in a file, since command lines are readable by all.
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
loglevel warning
daemonize no
set-proc-title no
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A prepared server."""

    folder: Path
    password: str
    port: int

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def argv(self) -> tuple[str, ...]:
        return (str(binaries.valkey()), str(self.folder / "valkey.conf"))


def prepare(folder: Path, port: int) -> Server:
    """Write the configuration; the password of an earlier run is kept."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = kept_secret(folder / "password", lambda: secrets.token_hex(24).encode())
    server = Server(folder, password.decode(), port)
    write_private(
        folder / "valkey.conf",
        _CONFIGURATION.format(
            port=port, password=server.password, folder=folder
        ).encode(),
    )
    return server
