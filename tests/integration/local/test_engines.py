import os
import shutil
import signal
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from local import accounts, binaries, postgres, valkey
from local.engines import running_postgres, running_valkey
from local.errors import LocalError

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def _increment(url: str) -> int:
    client = redis.asyncio.from_url(url)
    try:
        return int(await client.incr("starts"))
    finally:
        await client.aclose()


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz)")
        await connection.execute("INSERT INTO starts VALUES (now())")
        return int(await connection.fetchval("SELECT count(*) FROM starts"))
    finally:
        await connection.close()


async def test_valkey_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        async with running_valkey(tmp_path) as url:
            counts.append(await _increment(url))

    assert counts == [1, 2]


async def test_valkey_wants_a_password(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as url:
        stranger = redis.asyncio.from_url("redis://" + url.rpartition("@")[2])
        with pytest.raises(redis.exceptions.AuthenticationError):
            await stranger.ping()
        await stranger.aclose()


async def test_valkey_is_near_by_a_socket_and_wants_a_password_there(
    tmp_path: Path,
) -> None:
    socket = tmp_path / "r d.sock"
    async with running_valkey(tmp_path, socket) as url:
        assert url.startswith("unix:")
        assert await _increment(url) == 1
        assert socket.stat().st_mode & 0o077 == 0
        stranger = redis.asyncio.from_url("unix://" + url.rpartition("@")[2])
        with pytest.raises(redis.exceptions.ConnectionError, match="authenticated"):
            await stranger.ping()
        await stranger.aclose()


def test_valkeys_password_is_in_no_command_line(tmp_path: Path) -> None:
    server = valkey.prepare(tmp_path, 6379)

    assert server.password not in " ".join(server.argv())
    assert (tmp_path / "valkey.conf").stat().st_mode & 0o077 == 0


async def test_postgres_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        async with running_postgres(tmp_path, durable=False) as url:
            counts.append(await _count(url))

    assert counts == [1, 2]


@pytest.fixture
def cluster(tmp_path: Path) -> postgres.Cluster:
    return postgres.prepare(tmp_path / "postgres", durable=False)


async def test_an_interrupted_creation_is_done_again(tmp_path: Path) -> None:
    draft = tmp_path / "data.new"
    draft.mkdir(parents=True)
    (draft / "half").write_text("")
    async with running_postgres(tmp_path, durable=False) as url:
        assert await _count(url) == 1


async def test_a_pid_that_another_process_has_by_now_is_forgotten(
    cluster: postgres.Cluster,
) -> None:
    pid_file = cluster.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{cluster.data}\n")
    async with running_postgres(cluster.folder, durable=False) as url:
        assert await _count(url) == 1


async def test_a_dead_pid_is_left_to_postgres(cluster: postgres.Cluster) -> None:
    (cluster.data / "postmaster.pid").write_text(f"{2**22 + 1}\n{cluster.data}\n")
    await postgres.clear_stale_pid(cluster.data)

    assert (cluster.data / "postmaster.pid").exists()


async def test_a_cluster_without_its_password_is_refused_in_words(
    cluster: postgres.Cluster,
) -> None:
    (cluster.folder / "password").unlink()
    with pytest.raises(LocalError, match=r"password is missing.*remove"):
        postgres.prepare(cluster.folder)


async def test_a_cluster_that_another_server_uses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_ORPHAN_DEADLINE_S", 0.2)
    async with running_postgres(tmp_path, durable=False):
        with pytest.raises(LocalError, match="already uses"):
            await postgres.clear_stale_pid(tmp_path / "data")


async def test_a_killed_postgres_is_back_with_its_data(tmp_path: Path) -> None:
    async with running_postgres(tmp_path, durable=False) as url:
        await _count(url)
        pid = int((tmp_path / "data" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, signal.SIGKILL)
    async with running_postgres(tmp_path, durable=False) as url:
        assert await _count(url) == 2


@as_root
async def test_root_runs_postgres_under_a_parent_that_only_root_may_enter(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with running_postgres(closed / "postgres", durable=False) as url:
        assert await _count(url) == 1

    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0


@as_root
def test_without_a_way_in_the_obstacle_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    (closed / "postgres").mkdir(parents=True, mode=0o700)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    account = accounts._named("nobody")
    program = binaries.postgres() / "postgres"
    with pytest.raises(LocalError, match=r"user nobody, who cannot pass /.*0700.*run"):
        accounts.find_way(account, program, closed / "postgres")


@as_root
def test_a_cluster_is_run_by_its_owner(tmp_path: Path) -> None:
    nobody = accounts._named("nobody")
    assert nobody is not None
    os.chown(tmp_path, nobody.uid, nobody.gid)

    assert accounts.find_account(tmp_path) == nobody


@as_root
def test_an_owner_without_a_name_is_an_account_too(tmp_path: Path) -> None:
    os.chown(tmp_path, 987_654, 987_654)

    assert accounts.find_account(tmp_path) == accounts.Account(
        "987654", 987_654, 987_654
    )
