"""Is it ready? The smallest HTTP client that can ask, on TCP or a Unix socket."""

import asyncio
from pathlib import Path

_OK = 200


async def connects(host: str, port: int) -> None:
    """Raise unless something listens there."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def answers(where: Path | tuple[str, int], path: str) -> None:
    """Raise unless GET of this path is answered with 200."""
    status = await request("GET", where, path)
    if status != _OK:
        raise ConnectionError(f"{path} answered {status}")


async def request(method: str, where: Path | tuple[str, int], path: str) -> int:
    """Status of a request without a body."""
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(where)
    else:
        reader, writer = await asyncio.open_connection(*where)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        status_line = await reader.readline()
    finally:
        writer.close()
    try:
        return int(status_line.split()[1])
    except (IndexError, ValueError):
        raise ConnectionError("not an HTTP answer") from None
