"""The embedded PostgreSQL: a cluster in the data directory, and its command line."""

import asyncio
import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from local import binaries, watchdog
from local.accounts import Way, find_account, find_way
from local.errors import LocalError

USER = "hubgate"
DATABASE = "hubgate"
_INITDB_TIMEOUT_S = 60
_ORPHAN_DEADLINE_S = 10.0
_CONNECT_TIMEOUT_S = 2.0

#: For tests only: a crash of the machine, not of the server, may lose data.
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A prepared cluster."""

    folder: Path
    way: Way
    password: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, port: int, database: str = DATABASE) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{port}/{database}"

    def argv(self, port: int, stack: str, *, durable: bool = True) -> tuple[str, ...]:
        settings = (
            f"port={port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            f"cluster_name={watchdog.title(stack)}",
            "logging_collector=off",
            *(() if durable else _NOT_DURABLE),
        )
        options = [part for setting in settings for part in ("-c", setting)]
        program = str(binaries.postgres() / "postgres")
        return (*self.way.prefix, program, "-D", str(self.data), *options)


def prepare(folder: Path, *, durable: bool = True) -> Cluster:
    """Create the cluster if there is none; blocking, about one second."""
    cluster = place(folder)
    create(cluster, durable=durable)
    return cluster


def place(folder: Path) -> Cluster:
    """Where the cluster is or will be, and its password; blocking, at once.

    Raises:
        LocalError: it is there and its password is not, or nobody may run it.
    """
    program = binaries.postgres() / "postgres"
    account = find_account(folder / "data")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    way = find_way(account, program, folder)
    password_file = _password_file(folder)
    if not (folder / "data").exists():
        _make_password(password_file)
    if not password_file.exists():
        raise LocalError(
            f"{password_file} is missing, so no one can log in to {folder / 'data'}:"
            f" restore it, or remove {folder} to start with an empty database"
        )
    return Cluster(folder, way, password_file.read_text().strip())


def create(cluster: Cluster, *, durable: bool = True) -> None:
    """Make the cluster if there is none; blocking, about one second.

    Raises:
        LocalError: with what initdb said.
    """
    if cluster.data.exists():
        return
    # Made beside its place and renamed: an interrupted initdb leaves nothing that
    # looks like a cluster.
    draft = cluster.folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    result = cluster.way.run(
        *(str(binaries.postgres() / "initdb"), "-D", str(draft), "-U", USER),
        *("--auth=scram-sha-256", f"--pwfile={_password_file(cluster.folder)}"),
        *("--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
        *(() if durable else ("--no-sync",)),
        timeout_s=_INITDB_TIMEOUT_S,
    )
    if result.returncode != 0:
        said = result.stdout.strip()
        raise LocalError(f"initdb failed in {cluster.folder}:\n{said}")
    draft.rename(cluster.data)


def _password_file(folder: Path) -> Path:
    return folder / "password"


def _make_password(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(24) + "\n")
    owner = file.parent.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


async def clear_stale_pid(data: Path) -> None:
    """Let a new server start where an old one was killed.

    PostgreSQL itself copes with a dead number in `postmaster.pid`, but refuses when
    another process has it by now. A server that still ends is waited for.

    Raises:
        LocalError: a server that is not ours uses the cluster.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ORPHAN_DEADLINE_S
    pid = _recorded_pid(data)
    while pid is not None and _serves(pid, data):
        if loop.time() > deadline:
            raise LocalError(
                f"PostgreSQL with pid {pid} already uses {data}: stop it, or choose"
                " another --data-dir"
            )
        await asyncio.sleep(0.1)
    if pid is not None:
        _forget_stranger(pid, data)


def _forget_stranger(pid: int, data: Path) -> None:
    if Path(f"/proc/{pid}").exists() and not _serves(pid, data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _serves(pid: int, data: Path) -> bool:
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(data) in command_line.split(b"\0")


async def check(url: str) -> None:
    """Raise unless one can log in."""
    connection = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S)
    await connection.close()


async def ensure_database(url: str, database: str = DATABASE) -> None:
    """Connect to the server at `url` and create the database if it is missing."""
    admin_url = url.rpartition("/")[0] + "/postgres"
    connection = await asyncpg.connect(admin_url, timeout=_CONNECT_TIMEOUT_S)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database
            ):
                await connection.execute(f'CREATE DATABASE "{database}"')
    finally:
        await connection.close()
