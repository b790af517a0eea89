"""Servers that a line to Redis may meet: Redis as it is, altered, or another."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.clock import SystemClock

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_peer(
    peer: Peer, context: ssl.SSLContext | None = None, path: Path | None = None
) -> AsyncIterator[str]:
    """Says what it likes, and is waited for; gives its host and port, or its path."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            running.add(task)
        try:
            await peer(reader, writer)
        finally:
            await closed(writer)

    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        server, place = await asyncio.start_unix_server(serve, path), str(path)
    async with server:
        yield place
        await asyncio.wait_for(asyncio.gather(*running), 5)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def at(url: str, place: str, scheme: str = "redis", query: str = "") -> str:
    """`url` at another host and port, with its login."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit((scheme, f"{login}@{place}", parts.path, query, ""))


def through(
    url: str, alter: Callable[[bytes], list[bytes]] = lambda data: [data]
) -> Peer:
    """The server at `url`, with what it says altered on its way."""
    parts = urlsplit(url)

    async def pump(
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        change: Callable[[bytes], list[bytes]],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                for part in change(data):
                    sink.write(part)
                    await sink.drain()
                    await asyncio.sleep(0)
        await closed(sink)

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(
            pump(reader, ours, lambda data: [data]),
            pump(theirs, writer, alter),
        )

    return peer


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file that lets a client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis.test")])
    now = dt.datetime.fromtimestamp(SystemClock().now(), dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca, private = folder / "ca.pem", folder / "key.pem"
    ca.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, private)
    return context, ca
