"""A line brings every answer to who asked, and says so when there is none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from runtime import redis as runtime_redis
from runtime.redis import RedisUnavailable, Script, wrap_errors
from runtime.redis_line import Line
from tests.integration.runtime.redis_peers import a_peer, at, certificate, through


@asynccontextmanager
async def a_line(url: str) -> AsyncIterator[Line]:
    client = runtime_redis.connect(url, timeout_s=2.0)
    line = Line(client)
    yield line
    line.close()
    await client.aclose()


async def test_answers_come_in_the_order_of_their_commands_and_errors_among_them(
    redis_url: str,
) -> None:
    async with a_line(redis_url) as line:
        first, second = await asyncio.gather(
            line.carry([("ECHO", "a"), ("NO-SUCH",), ("ECHO", "b")]),
            line.carry([("ECHO", "c")]),
        )

    assert (first[0], first[2], second) == (b"a", b"b", [b"c"])
    assert isinstance(first[1], ResponseError)


async def test_answers_in_pieces_are_put_together(redis_url: str) -> None:
    def crumbs(data: bytes) -> list[bytes]:
        return [data[place : place + 3] for place in range(0, len(data), 3)]

    async with (
        a_peer(through(redis_url, crumbs)) as place,
        a_line(at(redis_url, place)) as line,
    ):
        answers = await line.carry([("ECHO", "x" * 50), ("ECHO", "y")])

    assert answers == [b"x" * 50, b"y"]


async def test_a_script_that_was_forgotten_is_sent_again(
    redis_url: str, redis_client: Redis
) -> None:
    script = Script("return tonumber(ARGV[1]) + 1")
    async with a_line(redis_url) as line:
        first = await script.run_many(line.carry, [([], [1])])
        await redis_client.script_flush()
        again = await script.run_many(line.carry, [([], [2]), ([], [3])])

    assert (first, again) == ([2], [3, 4])


async def test_it_logs_in_as_the_url_says(redis_url: str, redis_client: Redis) -> None:
    await redis_client.acl_setuser(
        "lane", enabled=True, passwords=["+pw"], commands=["+echo", "+client"]
    )
    place = urlsplit(redis_url).netloc.rpartition("@")[2]
    async with a_line(f"redis://lane:pw@{place}/0") as line:
        echo, denied = await line.carry([("ECHO", "a"), ("GET", "b")])
    await redis_client.acl_deluser("lane")
    async with a_line(f"redis://lane:pw@{place}/0") as line:
        with pytest.raises(RedisUnavailable), wrap_errors():
            await line.carry([("ECHO", "a")])

    assert echo == b"a"
    assert type(denied).__name__ == "NoPermissionError"


async def test_it_is_known_by_its_name_and_uses_the_database_of_the_url(
    redis_url: str, redis_client: Redis
) -> None:
    await redis_client.execute_command("SELECT", 3)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    await redis_client.set("line:here", "3")
    async with a_line(urlunsplit(urlsplit(redis_url)._replace(path="/3"))) as line:
        found, name = await line.carry([("GET", "line:here"), ("CLIENT", "GETNAME")])
    async with a_line(urlunsplit(urlsplit(redis_url)._replace(path="/999"))) as line:
        with pytest.raises(RedisUnavailable), wrap_errors():
            await line.carry([("ECHO", "a")])

    assert (found, name) == (b"3", b"hubgate")


async def test_a_wrong_password_is_no_connection(redis_url: str) -> None:
    place = urlsplit(redis_url).netloc.rpartition("@")[2]
    for login in (":wrong@", "nobody:wrong@", ""):
        async with a_line(f"redis://{login}{place}/0") as line:
            with pytest.raises(RedisUnavailable), wrap_errors():
                await line.carry([("ECHO", "a")])


async def test_it_goes_by_a_socket_of_this_machine(
    redis_url: str, tmp_path: Path
) -> None:
    path, password = tmp_path / "redis.sock", urlsplit(redis_url).password
    async with (
        a_peer(through(redis_url), path=path) as place,
        a_line(f"unix://:{password}@{place}?db=2") as line,
    ):
        answers = await line.carry([("ECHO", "a"), ("CLIENT", "INFO")])

    assert answers[0] == b"a"
    assert b" db=2 " in answers[1]


async def test_nobody_is_a_lost_connection(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/nobody.sock", "redis://127.0.0.1:1/0"):
        async with a_line(url) as line:
            with pytest.raises(RedisError, match="not connected"):
                await line.carry([("ECHO", "a")])


async def test_who_does_not_greet_in_time_is_let_go() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        gone.set()

    async with a_peer(silent) as place:
        client = runtime_redis.connect(f"redis://{place}/0", timeout_s=0.1)
        with pytest.raises(RedisUnavailable), wrap_errors():
            await Line(client).carry([("ECHO", "a")])
        async with asyncio.timeout(5):
            await gone.wait()
        await client.aclose()


async def test_it_speaks_tls_and_looks_at_the_certificate(
    redis_url: str, tmp_path: Path
) -> None:
    context, ca = certificate(tmp_path)
    async with a_peer(through(redis_url), context) as place:
        async with a_line(at(redis_url, place, "rediss", f"ssl_ca_certs={ca}")) as line:
            answers = await line.carry([("ECHO", "a")])
        async with a_line(at(redis_url, place, "rediss")) as line:
            with pytest.raises(RedisUnavailable), wrap_errors():
                await line.carry([("ECHO", "a")])

    assert answers == [b"a"]


async def test_a_lost_connection_is_an_error_for_all_who_wait_and_replaced_by_the_next(
    redis_url: str, redis_client: Redis
) -> None:
    async with a_line(redis_url) as line:
        await line.carry([("ECHO", "a")])
        waiting = [
            asyncio.create_task(line.carry([("BLPOP", f"line:{one}", 0)]))
            for one in range(2)
        ]
        await asyncio.sleep(0)
        await redis_client.client_kill_filter(_type="normal", skipme=True)
        failed = await asyncio.gather(*waiting, return_exceptions=True)
        answers = await line.carry([("ECHO", "b")])

    assert all(isinstance(one, RedisError) for one in failed)
    assert answers == [b"b"]


async def test_who_gives_up_takes_the_connection_down_and_no_late_answer_is_anothers(
    redis_url: str, redis_client: Redis
) -> None:
    async with a_line(redis_url) as line:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await line.carry([("BLPOP", "line:late", 0)])
        await redis_client.rpush("line:late", "late")
        answers = await line.carry([("ECHO", "b"), ("LLEN", "line:late")])

    assert answers == [b"b", 1]


def spoilt(said: bytes) -> Callable[[bytes], list[bytes]]:
    return lambda data: [said] if b"spoil" in data else [data]


async def test_what_is_no_answer_ends_the_connection(redis_url: str) -> None:
    async with (
        a_peer(through(redis_url, spoilt(b"nonsense\r\n"))) as place,
        a_line(at(redis_url, place)) as line,
    ):
        with pytest.raises(RedisError):
            await line.carry([("ECHO", "spoil")])
        answers = await line.carry([("ECHO", "b")])

    assert answers == [b"b"]


async def test_an_answer_too_many_is_nobodys(redis_url: str) -> None:
    async with (
        a_peer(through(redis_url, spoilt(b"+one\r\n+two\r\n"))) as place,
        a_line(at(redis_url, place)) as line,
    ):
        first = await line.carry([("ECHO", "spoil")])
        second = await line.carry([("ECHO", "b")])

    assert (first, second) == ([b"one"], [b"b"])


async def test_what_nobody_asked_for_is_told_apart_from_answers(redis_url: str) -> None:
    told = b">2\r\n$4\r\nnews\r\n$1\r\nx\r\n$5\r\nspoil\r\n"
    async with (
        a_peer(through(redis_url, spoilt(told))) as place,
        a_line(at(redis_url, place)) as line,
    ):
        answers = await line.carry([("ECHO", "spoil")])

    assert answers == [b"spoil"]


async def test_who_gives_up_while_it_is_opened_leaves_nothing_open(
    redis_url: str,
) -> None:
    ended = asyncio.Event()

    async def silent(
        reader: asyncio.StreamReader,
        _: asyncio.StreamWriter,
    ) -> None:
        while await reader.read(4096):
            pass
        ended.set()

    async with a_peer(silent) as place, a_line(at(redis_url, place)) as line:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await line.carry([("ECHO", "a")])
        async with asyncio.timeout(5):
            await ended.wait()
