"""The embedded Valkey: its configuration, in the data directory."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from local import binaries
from local.files import kept_secret, write_private

# Its title would overwrite the environment, in which the watchdog looks for the
# stack's marker. The password is for other users of this machine: loopback is theirs
# too; in a file, since command lines are readable by all.
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
{socket}requirepass {password}
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
    #: For processes of this machine: a round trip takes a quarter less of their time.
    socket: Path | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def nearest_url(self) -> str:
        """By the socket, where there is one."""
        if self.socket is None:
            return self.url
        return f"unix://:{self.password}@{quote(str(self.socket))}?db=0"

    def argv(self) -> tuple[str, ...]:
        return (str(binaries.valkey()), str(self.folder / "valkey.conf"))


def prepare(folder: Path, port: int, socket: Path | None = None) -> Server:
    """Write the configuration; the password of an earlier run is kept."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = kept_secret(folder / "password", lambda: secrets.token_hex(24).encode())
    server = Server(folder, password.decode(), port, socket)
    also = "" if socket is None else f'unixsocket "{socket}"\nunixsocketperm 700\n'
    write_private(
        folder / "valkey.conf",
        _CONFIGURATION.format(
            port=port, socket=also, password=server.password, folder=folder
        ).encode(),
    )
    return server
