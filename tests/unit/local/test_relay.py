from pathlib import Path

from local.relay import LineProtocol, Output


def _output(path: Path, shown: list[str]) -> Output:
    return Output(path, lambda *texts: shown.extend(texts))


async def test_lines_are_joined_over_reads(tmp_path: Path) -> None:
    shown: list[str] = []
    output = _output(tmp_path / "a.log", shown)
    protocol = LineProtocol(output)
    protocol.data_received(b"one\r\ntw")
    protocol.data_received(b"o\nthree")
    protocol.connection_lost(None)
    output.close()

    assert shown == ["one", "two", "three"]
    assert (tmp_path / "a.log").read_text() == "one\ntwo\nthree\n"


async def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    shown: list[str] = []
    output = _output(tmp_path / "a.log", shown)
    protocol = LineProtocol(output)
    protocol.data_received(b"x" * 70_000)
    output.close()

    assert [len(line) for line in shown] == [70_000]


async def test_bytes_that_are_no_text_are_shown_anyway(tmp_path: Path) -> None:
    shown: list[str] = []
    output = _output(tmp_path / "a.log", shown)
    LineProtocol(output).data_received(b"\xff!\n")
    output.close()

    assert shown == ["\ufffd!"]


def test_a_full_disk_does_not_stop_the_relay() -> None:
    shown: list[str] = []
    output = _output(Path("/dev/full"), shown)
    output.line(b"only shown")
    output.close()

    assert shown == ["only shown"]


async def test_lines_that_come_together_stay_lines(tmp_path: Path) -> None:
    shown: list[str] = []
    output = _output(tmp_path / "a.log", shown)
    LineProtocol(output).data_received(b"one\n\ntwo\nthr")
    output.close()

    assert shown == ["one", "", "two"]
    assert (tmp_path / "a.log").read_text() == "one\n\ntwo\n"
