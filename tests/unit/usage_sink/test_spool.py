"""The spool on a real disk: what was acknowledged is read, whatever happened."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from runtime.clock import FakeClock
from runtime.metrics import Metrics
from usage_sink import spool_writer
from usage_sink.errors import SpoolFull, SpoolInUse, SpoolUnavailable
from usage_sink.segments import Kind, header
from usage_sink.spool import Bounds, Spool
from usage_sink.spool_folder import write_all

BLOCK = 64 * 1024
REFUSED: Final = "hubgate_usage_spool_refused_total"


class Room:
    """A folder, and the spools that are opened in it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.metrics = Metrics()

    @asynccontextmanager
    async def spool(self, **bounds: int) -> AsyncIterator[Spool]:
        spool = Spool(self.folder, Bounds(**bounds), self.clock, self.metrics)
        try:
            async with asyncio.timeout(10):
                yield spool
        finally:
            await spool.close()

    def segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.spool"))

    def tear(self, data: bytes) -> None:
        """As a process leaves a segment that was killed in a write."""
        with self.segments()[-1].open("ab") as file:
            file.write(data)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "spool")


async def payloads(spool: Spool) -> list[bytes]:
    found = []
    while (chunk := await spool.read(BLOCK)) is not None:
        found += [entry.payload for entry in chunk.entries]
    return found


async def load_all(spool: Spool) -> list[bytes]:
    found = []
    while (chunk := await spool.read(BLOCK)) is not None:
        found += [entry.payload for entry in chunk.entries]
        await spool.loaded(chunk.end)
    return found


def numbered(count: int, size: int = 1000) -> list[bytes]:
    return [f"{number:06d}".encode().ljust(size, b".") for number in range(count)]


async def append(spool: Spool, batches: list[bytes]) -> None:
    for payload in batches:
        await spool.append(Kind.OTLP, payload)


async def test_what_was_appended_is_read_in_order_after_a_restart(room: Room) -> None:
    sent = numbered(50)
    async with room.spool(segment_bytes=10_000) as spool:
        await append(spool, sent)
        identity = spool.identity

    async with room.spool(segment_bytes=10_000) as spool:
        assert await payloads(spool) == sent
        assert spool.identity == identity


async def test_what_was_loaded_is_not_read_again_and_gives_its_room_back(
    room: Room,
) -> None:
    async with room.spool(segment_bytes=10_000) as spool:
        await append(spool, numbered(50))
        assert len(await load_all(spool)) == 50
        assert spool.size < 10_000

    async with room.spool(segment_bytes=10_000) as spool:
        assert await payloads(spool) == []
        assert room.segments() == []


async def test_what_was_read_and_not_loaded_is_read_again(room: Room) -> None:
    sent = numbered(3)
    async with room.spool() as spool:
        await append(spool, sent[:1])
        await load_all(spool)
        await append(spool, sent[1:])
        assert await payloads(spool) == sent[1:]

    async with room.spool() as spool:
        assert await payloads(spool) == sent[1:]


async def test_appends_that_arrive_during_an_fsync_share_the_next(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []

    def counted(file: int, data: bytes) -> None:
        writes.append(len(data))
        write_all(file, data)

    monkeypatch.setattr(spool_writer, "write_all", counted)
    async with room.spool() as spool:
        await asyncio.gather(*(spool.append(Kind.ALS, b"x") for _ in range(100)))
        assert len(writes) <= 2
        assert len(await payloads(spool)) == 100


async def test_a_second_process_is_refused(room: Room) -> None:
    async with room.spool():
        with pytest.raises(SpoolInUse):
            Spool(room.folder, Bounds(), room.clock, room.metrics)


class TestBound:
    async def test_a_full_spool_refuses_and_drops_nothing(self, room: Room) -> None:
        sent = numbered(9)
        async with room.spool(total_bytes=10_000, segment_bytes=2_000) as spool:
            await append(spool, sent)
            with pytest.raises(SpoolFull):
                await append(spool, sent[:1])
            with pytest.raises(SpoolUnavailable):
                await spool.check()

            assert room.metrics.value(REFUSED, reason="full") == 1
            assert await load_all(spool) == sent
            await append(spool, sent[:1])
            await spool.check()

    async def test_a_full_spool_that_was_loaded_is_well_again(self, room: Room) -> None:
        async with room.spool(total_bytes=10_000, segment_bytes=2_000) as spool:
            await append(spool, numbered(9))
            with pytest.raises(SpoolFull):
                await append(spool, numbered(1))
            await load_all(spool)

            await spool.check()


class TestDamage:
    @pytest.mark.parametrize(
        "torn",
        [
            pytest.param(header(Kind.OTLP, 0.0, b"x" * 50), id="a header alone"),
            pytest.param(header(Kind.OTLP, 0.0, b"x")[:7], id="half a header"),
            pytest.param(header(Kind.OTLP, 0.0, b"xy") + b"x", id="half a payload"),
            pytest.param(bytes(200), id="zeros"),
        ],
    )
    async def test_a_torn_write_is_passed_over(self, room: Room, torn: bytes) -> None:
        async with room.spool() as spool:
            await append(spool, numbered(3))
        segment = room.segments()[0]
        segment.write_bytes(segment.read_bytes()[: -len(header(Kind.ALS, 0.0, b""))])
        room.tear(torn)

        async with room.spool() as spool:
            await append(spool, [b"later"])
            assert await load_all(spool) == [*numbered(3), b"later"]
        assert room.metrics.value("hubgate_usage_spool_damaged_total") == 0

    @pytest.mark.parametrize("block", [100, BLOCK])
    async def test_damage_inside_costs_one_record_and_is_kept_aside(
        self, room: Room, block: int
    ) -> None:
        sent = numbered(20)
        async with room.spool() as spool:
            await append(spool, sent)
        segment = room.segments()[0]
        segment.write_bytes(segment.read_bytes().replace(b"000007", b"xxxxxx"))

        async with room.spool() as spool:
            found = []
            while (chunk := await spool.read(block)) is not None:
                found += [entry.payload for entry in chunk.entries]
                await spool.loaded(chunk.end)

        assert found == sent[:7] + sent[8:]
        assert room.metrics.value("hubgate_usage_spool_damaged_total") == 1
        assert segment.with_suffix(".corrupt").exists()
        assert not room.segments()

    async def test_damage_at_the_end_of_a_segment_in_use_costs_nothing_later(
        self, room: Room
    ) -> None:
        async with room.spool() as spool:
            await append(spool, numbered(2))
            segment = room.segments()[0]
            data = segment.read_bytes().replace(b"000001", b"xxxxxx")
            segment.write_bytes(data)
            assert await load_all(spool) == numbered(1)

            await append(spool, [b"later"])
            assert await load_all(spool) == [b"later"]
        assert room.metrics.value("hubgate_usage_spool_damaged_total") == 1

    async def test_a_lost_position_is_a_replay(self, room: Room) -> None:
        async with room.spool() as spool:
            await append(spool, numbered(2))
            await load_all(spool)
        (room.folder / "position").write_bytes(b"\xff" * 1024)

        async with room.spool() as spool:
            assert await payloads(spool) == numbered(2)


class TestFailingDisk:
    """The kernel's own error, where the disk has no room or fails."""

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        state: dict[str, Any] = {"error": None, "written": 0}

        def failing(file: int, data: bytes) -> None:
            if state["error"] is not None:
                os.write(file, data[: state["written"]])
                raise OSError(state["error"], os.strerror(state["error"]))
            write_all(file, data)

        monkeypatch.setattr(spool_writer, "write_all", failing)
        return state

    @pytest.mark.parametrize("written", [0, 10, 10_000])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    async def test_a_failed_write_is_refused_and_the_next_is_good(
        self, room: Room, disk: dict[str, Any], number: int, written: int
    ) -> None:
        async with room.spool() as spool:
            await append(spool, [b"first"])
            disk.update(error=number, written=written)
            with pytest.raises(SpoolUnavailable):
                await append(spool, [b"refused"])
            with pytest.raises(SpoolUnavailable):
                await spool.check()
            with pytest.raises(SpoolUnavailable):  # not tried again at once
                await append(spool, [b"refused"])

            disk["error"] = None
            room.clock.advance(1.0)
            await append(spool, [b"last"])
            await spool.check()
            assert await payloads(spool) == [b"first", b"last"]

    async def test_the_kernel_itself_stops_a_write_half_way(self, room: Room) -> None:
        """By the largest size of a file: a real short write, then a real error."""
        sent = numbered(8)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        async with room.spool() as spool:
            await append(spool, sent[:2])
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_500, hard))
            try:
                with pytest.raises(SpoolUnavailable):
                    await append(spool, sent[2:3])
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            room.clock.advance(1.0)
            await append(spool, sent[3:])

        async with room.spool() as spool:
            assert await load_all(spool) == sent[:2] + sent[3:]
        assert room.metrics.value("hubgate_usage_spool_damaged_total") == 0

    async def test_a_disk_that_stays_full_leaves_no_files_behind(
        self, room: Room, disk: dict[str, Any]
    ) -> None:
        async with room.spool() as spool:
            disk.update(error=errno.ENOSPC)
            for _ in range(5):
                with pytest.raises(SpoolUnavailable):
                    await append(spool, [b"refused"])
                room.clock.advance(1.0)

            assert room.segments() == []
        assert room.metrics.value(REFUSED, reason="disk") == 5

    @pytest.mark.parametrize("order", ["loaded first", "refused first"])
    async def test_a_disk_that_is_full_of_loaded_records_is_emptied(
        self, room: Room, disk: dict[str, Any], order: str
    ) -> None:
        """Nothing new can be written, so nothing new may be needed for it."""
        async with room.spool() as spool:
            await append(spool, numbered(3))
            if order == "loaded first":
                await load_all(spool)
            spool.arrived.clear()
            disk.update(error=errno.ENOSPC)
            with pytest.raises(SpoolUnavailable):
                await append(spool, [b"refused"])
            assert spool.arrived.is_set()
            await load_all(spool)

            assert room.segments() == []

    async def test_a_full_disk_is_emptied_when_its_last_record_is_loaded(
        self, room: Room, disk: dict[str, Any]
    ) -> None:
        """The segment ends before it is read, so that reading goes on behind it."""
        async with room.spool() as spool:
            await append(spool, numbered(3))
            disk.update(error=errno.ENOSPC)
            with pytest.raises(SpoolUnavailable):
                await append(spool, [b"refused"])
            chunk = await spool.read(BLOCK)
            assert chunk is not None

            await spool.loaded(chunk.entries[-1].end)

            assert room.segments() == []
            assert spool.oldest_pending() is None

    async def test_a_full_disk_is_emptied_after_a_restart_too(
        self, room: Room, disk: dict[str, Any]
    ) -> None:
        async with room.spool() as spool:
            await append(spool, numbered(3))
            await load_all(spool)
        disk.update(error=errno.ENOSPC)
        async with room.spool() as spool:
            await load_all(spool)

            assert room.segments() == []


class TestOldestPending:
    async def test_it_is_the_time_of_the_oldest_entry_that_is_not_loaded(
        self, room: Room
    ) -> None:
        async with room.spool() as spool:
            assert spool.oldest_pending() is None
            first = room.clock.now()
            await append(spool, [b"a"])
            room.clock.advance(10)
            assert spool.oldest_pending() == first

            chunk = await spool.read(BLOCK)
            await append(spool, [b"b"])
            assert spool.oldest_pending() == first

            assert chunk is not None
            await spool.loaded(chunk.end)
            assert spool.oldest_pending() == first + 10

            await load_all(spool)
            assert spool.oldest_pending() is None

    async def test_it_outlives_a_restart(self, room: Room) -> None:
        first = room.clock.now()
        async with room.spool() as spool:
            await append(spool, [b"a"])
        room.clock.advance(10)

        async with room.spool() as spool:
            assert spool.oldest_pending() == first

    async def test_what_is_not_durable_yet_counts(self, room: Room) -> None:
        async with room.spool() as spool:
            appending = asyncio.create_task(spool.append(Kind.OTLP, b"a"))
            await asyncio.sleep(0)
            assert spool.oldest_pending() == room.clock.now()
            await appending
