"""Every line is read once, whatever becomes of the file under its name."""

from pathlib import Path

import pytest

from usage_sink.access_log import AccessLog

MOST = 10


class Room:
    """A log file, and a reader that keeps its position beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.jsonl"
        self.position = folder / "position"
        self.now = 0.0
        self.log = self.start()

    def start(self) -> AccessLog:
        self.log = AccessLog(self.path, self.position)
        self.log.open()
        return self.log

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def read(self) -> str:
        found = ""
        for _ in range(MOST):
            block = self.log.next(self.now)
            if block is None:
                return found
            found += block.data.decode()
        raise AssertionError("it never ends")

    def done(self) -> None:
        """All that was read is done with."""
        self.log.note({})


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_line_is_read_when_it_is_whole(room: Room) -> None:
    assert room.read() == ""
    room.write("one\ntw")
    assert room.read() == "one\n"
    room.write("o\n")
    assert room.read() == "two\n"
    assert room.read() == ""


def test_a_restart_goes_on_where_all_was_done(room: Room) -> None:
    room.write("one\ntwo\n")
    room.read()
    (inode,) = [room.path.stat().st_ino]
    room.log.note({inode: len("one\n")})
    room.write("three\n")
    room.start()
    assert room.read() == "two\nthree\n"


def test_a_restart_that_lost_its_position_reads_all_again(room: Room) -> None:
    room.write("one\n")
    room.read()
    room.done()
    room.position.write_text("{tor")
    room.start()
    assert room.read() == "one\n"


def test_another_file_with_the_same_inode_is_read_from_its_start(room: Room) -> None:
    room.write("one\n")
    room.read()
    room.done()
    room.path.write_text("new one\nnew two\n")  # the same inode, other content
    room.start()
    assert room.read() == "new one\nnew two\n"


def test_a_file_that_was_emptied_is_read_from_its_start(room: Room) -> None:
    room.write("one and more\n")
    room.read()
    room.path.write_text("two\n")
    assert room.read() == "two\n"


def test_after_a_rename_the_old_file_is_read_to_its_end(room: Room) -> None:
    room.write("one\n")
    assert room.read() == "one\n"
    old = room.path.rename(room.path.with_name("elsewhere"))
    room.write("three\n")  # the new file
    with old.open("a") as late:
        late.write("two\n")
    assert room.read() == "two\n"
    room.now = 3.0
    assert room.read() == "three\n"
    room.done()
    assert old.read_text() == "one\ntwo\n"  # it is not ours to remove


def test_a_torn_end_of_an_old_file_holds_nothing_up(room: Room) -> None:
    room.write("one\ntor")
    assert room.read() == "one\n"
    room.path.rename(room.path.with_name("elsewhere"))
    room.write("two\n")
    assert room.read() == ""
    room.now = 3.0
    assert room.read() == "two\n"


def test_a_large_file_is_rotated_and_removed_when_it_is_done_with(room: Room) -> None:
    room.write("one\n")
    assert room.read() == "one\n"
    room.log.rotate(5, 1_700_000_000.0)
    assert room.path.exists()
    room.write("two\n")
    room.log.rotate(5, 1_700_000_000.0)
    old = room.path.with_name("access.jsonl.1700000000000")
    assert old.exists()
    assert room.log.wants_reopening()
    room.log.rotate(5, 1_700_000_001.0)  # not again before there is a new one

    room.path.touch()
    assert not room.log.wants_reopening()
    assert room.read() == "two\n"
    room.write("three\n")
    room.now = 3.0
    assert room.read() == "three\n"
    room.log.note({old.stat().st_ino: 0})
    assert old.exists()
    room.done()
    assert not old.exists()
    assert room.read() == ""


def test_a_restart_between_rename_and_reopening_goes_on(room: Room) -> None:
    room.write("one\ntwo\n")
    room.read()
    room.log.note({room.path.stat().st_ino: len("one\n")})
    room.log.rotate(1, 1_700_000_000.0)
    room.start()
    assert room.log.wants_reopening()
    assert room.read() == "two\n"
    room.write("three\n")
    room.now = 3.0
    assert room.read() == "three\n"
    room.done()
    assert list(room.path.parent.glob("access.jsonl.*")) == []
