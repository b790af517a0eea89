import os
from pathlib import Path

import pytest

from runtime.clock import FakeClock
from runtime.rotated_file import RotatedFile


def _texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def _file(folder: Path, most_bytes: int, clock: FakeClock | None = None) -> RotatedFile:
    return RotatedFile(folder / "a.log", most_bytes, clock or FakeClock())


def test_one_older_file_is_kept(tmp_path: Path) -> None:
    log = _file(tmp_path, 10)
    for line in (b"first line\n", b"second line\n", b"third\n"):
        log.write(line)
    log.close()

    assert _texts(tmp_path) == {"a.log": "third\n", "a.log.1": "second line\n"}


def test_what_was_there_before_is_kept_and_counts(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("of an earlier life\n")
    log = _file(tmp_path, 20)
    log.write(b"more\n")
    log.close()

    assert _texts(tmp_path) == {"a.log.1": "of an earlier life\nmore\n"}


def test_two_processes_rotate_one_file_once(tmp_path: Path) -> None:
    one, other = _file(tmp_path, 30), _file(tmp_path, 30)
    other.write(b"from the other\n")
    one.write(b"from one\n")
    one.write(b"too much\n")
    # It has the old file still, and finds it too large as well.
    other.write(b"late and too much\n")
    one.write(b"new\n")
    other.write(b"new, too\n")
    one.close()
    other.close()

    assert _texts(tmp_path) == {
        "a.log.1": "from the other\nfrom one\ntoo much\nlate and too much\n",
        "a.log": "new\nnew, too\n",
    }


@pytest.mark.parametrize("goes", ["is renamed", "is removed"])
def test_a_file_that_somebody_takes_away_is_begun_again(
    tmp_path: Path, goes: str
) -> None:
    clock = FakeClock()
    log = _file(tmp_path, 100, clock)
    log.write(b"old\n")
    if goes == "is renamed":
        (tmp_path / "a.log").rename(tmp_path / "b.log")
    else:
        (tmp_path / "a.log").unlink()
    clock.advance(1)
    log.write(b"new\n")
    log.close()

    assert _texts(tmp_path)["a.log"] == "new\n"


def test_a_line_after_a_torn_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _file(tmp_path, 100)
    log.write(b"whole\n")
    real = os.write
    monkeypatch.setattr("os.write", lambda file, data: real(file, data[:3]))
    with pytest.raises(OSError, match="No space left"):
        log.write(b"torn\n")
    monkeypatch.undo()
    log.write(b"whole again\n")
    log.close()

    assert _texts(tmp_path)["a.log"] == "whole\ntor\nwhole again\n"


def test_no_room_is_an_error() -> None:
    log = RotatedFile(Path("/dev/full"), 100, FakeClock())
    with pytest.raises(OSError, match="No space left"):
        log.write(b"lost\n")
    log.close()


def test_a_folder_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    log = RotatedFile(tmp_path / "later" / "a.log", 100, FakeClock())
    with pytest.raises(FileNotFoundError):
        log.write(b"lost\n")
    (tmp_path / "later").mkdir()
    log.write(b"kept\n")
    log.close()

    assert _texts(tmp_path / "later") == {"a.log": "kept\n"}
