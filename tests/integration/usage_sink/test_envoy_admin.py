"""The sink asks the Envoy beside it, over a port or a socket that both have."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from local import binaries
from local.envoy import EnvoySettings, argv, bootstrap
from local.ports import free_ports
from local.settings import packaged_bootstrap
from runtime.settings import Address
from usage_sink.envoy_admin import EnvoyAdmin, EnvoyAway, Life

pytestmark = pytest.mark.e2e

DEADLINE_S = 20.0
POLL_S = 0.05


@asynccontextmanager
async def an_envoy(admin: Address, incarnation: str) -> AsyncIterator[None]:
    """As in a container; nothing controls it. It ends as if it were killed."""
    settings = EnvoySettings.from_environ(
        {
            "HUBGATE_NODE_ID": "edge-1",
            "HUBGATE_ENVOY_ADMIN": str(admin),
            "HUBGATE_ADS_PORT": "1",
        }
    )
    template = packaged_bootstrap().read_text()
    line = argv(binaries.envoy(), settings, bootstrap(template, settings, incarnation))
    process = await asyncio.create_subprocess_exec(
        *line, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def life(admin: EnvoyAdmin) -> Life:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await admin.life()
            except EnvoyAway:
                await asyncio.sleep(POLL_S)


async def test_envoy_says_which_life_it_is_in_over_a_socket_that_outlives_it(
    tmp_path: Path,
) -> None:
    address = Address(path=f"{tmp_path}/envoy.sock")
    admin = EnvoyAdmin(address)
    for incarnation in ("1", "2"):
        async with an_envoy(address, incarnation):
            assert await life(admin) == Life("edge-1", incarnation)
            await admin.reopen_logs()
            assert Path(f"{tmp_path}/envoy.sock").stat().st_mode & 0o777 == 0o660
        with pytest.raises(EnvoyAway):
            await admin.life()
    await admin.close()


async def test_what_is_not_envoy_is_no_life() -> None:
    (port,) = free_ports(1)

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    admin = EnvoyAdmin(Address(host="127.0.0.1", port=port))
    async with server:
        with pytest.raises(EnvoyAway):
            await admin.life()
    await admin.close()
