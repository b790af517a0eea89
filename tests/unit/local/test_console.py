import json
import os
from collections.abc import Callable

import pytest

from local.console import Console, Outlet, Style

_PIPE_CAPACITY = 65_536


def _drain(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as reader:
        return reader.read()


class Pipes:
    """Standard output and error of a console, as pipes."""

    def __init__(self) -> None:
        self.out, self.stdout = os.pipe()
        self.err, self.stderr = os.pipe()

    def finish(self, console: Console) -> tuple[list[str], list[str]]:
        console.close()
        os.close(self.stdout)
        os.close(self.stderr)
        out, err = _drain(self.out).decode(), _drain(self.err).decode()
        return out.splitlines(), err.splitlines()


def _shown(style: Style, use: Callable[[Console], None]) -> tuple[list[str], list[str]]:
    pipes = Pipes()
    console = Console(style, stdout=pipes.stdout, stderr=pipes.stderr)
    use(console)
    return pipes.finish(console)


def test_a_line_carries_the_name_of_its_process() -> None:
    out, _ = _shown(Style.PLAIN, lambda console: console.log("authz-0", "hello"))

    assert out == ["authz-0      | hello"]


def test_people_do_not_read_json() -> None:
    line = '{"level": "info", "event": "started", "port": 8000, "time": "t"}'
    out, _ = _shown(Style.PLAIN, lambda console: console.log("control", line))

    assert out == ["control      | info started port=8000"]


def test_colours_tell_processes_apart() -> None:
    def use(console: Console) -> None:
        console.log("a", "1")
        console.log("b", "2")
        console.log("a", "3")

    out, _ = _shown(Style.COLOUR, use)

    colours = [line.partition("m")[0] for line in out]
    assert colours[0] == colours[2] != colours[1]


def test_with_json_the_ready_line_is_the_first_of_standard_output() -> None:
    def use(console: Console) -> None:
        console.log("redis", "before")
        console.ready('{"event":"ready"}')
        console.log("redis", "after")

    out, err = _shown(Style.JSON, use)

    assert out[0] == '{"event":"ready"}'
    assert json.loads(out[1]) == {"process": "redis", "event": "after"}
    assert json.loads(err[0]) == {"process": "redis", "event": "before"}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        pytest.param('{"a": 1}', {"a": 1}, id="an object is taken over"),
        pytest.param('{"a": 1', {"event": '{"a": 1'}, id="a cut object is text"),
        pytest.param("[1]", {"event": "[1]"}, id="a list is text"),
        pytest.param(
            '{"a": 1} {"b": 2}', {"event": '{"a": 1} {"b": 2}'}, id="two are text"
        ),
        pytest.param("{}", {}, id="an empty object is taken over"),
    ],
)
def test_json_logs_stay_objects(line: str, fields: dict[str, object]) -> None:
    _, err = _shown(Style.JSON, lambda console: console.log("x", line))

    assert json.loads(err[0]) == {"process": "x", **fields}


def test_a_full_pipe_drops_and_counts_but_never_blocks() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer, limit=100)
    line = b"x" * 1023 + b"\n"
    for _ in range(1000):
        outlet.put(line)
    outlet.put(b"essential\n", essential=True)

    # More than the queue and the pipe hold cannot have been kept.
    assert outlet.dropped >= 1000 - 100 - 100 - _PIPE_CAPACITY // 1024 - 1
    outlet.close(timeout_s=0)
    received = b""
    while not received.endswith(b"essential\n"):
        received += os.read(reader, 65_536)
    os.close(reader)
    os.close(writer)
    assert received.count(b"\n") == 1001 - outlet.dropped


def test_what_was_dropped_is_said_when_the_reader_is_back() -> None:
    def use(console: Console) -> None:
        console._logs.dropped = 7
        console.log("a", "again")

    out, _ = _shown(Style.PLAIN, use)

    assert "7 lines dropped" in out[0]
    assert out[1].endswith("again")


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(writer)
    outlet.put(b"nobody reads this\n")
    outlet.close(timeout_s=5)
    outlet.put(b"nor this\n")
    os.close(writer)

    assert outlet.dropped == 1


def test_a_descriptor_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outlet = Outlet(writer)
    outlet.put(b"x" * (2 * _PIPE_CAPACITY) + b"\n")

    received = 0
    while received < 2 * _PIPE_CAPACITY + 1:
        received += len(os.read(reader, 65_536))
    outlet.close(timeout_s=5)
    os.close(reader)
    os.close(writer)
