import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from local import watchdog
from local.child import Spec
from local.console import Console, Style
from local.errors import StartError
from local.processes import Supervisor
from local.shares import Share

pytestmark = pytest.mark.integration

_SERVE = """
import pathlib, signal, sys
pathlib.Path(sys.argv[1]).write_text("here")
print("hello from the child", flush=True)
signal.pause()
"""
_DEADLINE_S = 15.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Bench:
    """A supervisor over small Python processes that mark their readiness by a file."""

    def __init__(self, folder: Path, null: int) -> None:
        self.folder = folder
        self.notes: list[str] = []
        console = Console(Style.PLAIN, stdout=null, stderr=null)
        self.changes = asyncio.Event()
        self.supervisor = Supervisor(
            stack="test-stack",
            environ={"PATH": os.defpath},
            console=console,
            logs=folder,
            on_change=self.changes.set,
        )
        self.console = console

    def spec(
        self, name: str, code: str = _SERVE, *, stop_timeout_s: float = 10.0
    ) -> Spec:
        mark = self.folder / f"{name}.ready"

        async def prepare() -> None:
            mark.unlink(missing_ok=True)

        async def ready() -> None:
            mark.read_text()

        return Spec(
            name=name,
            kinds=(name,),
            argv=(sys.executable, "-I", "-S", "-c", code, str(mark)),
            prepare=prepare,
            ready=ready,
            ready_timeout_s=5.0,
            stop_timeout_s=stop_timeout_s,
        )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def pid(self, name: str) -> int:
        pids = self.supervisor.pids().get(name, [])
        return pids[0] if pids else 0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    null = os.open(os.devnull, os.O_WRONLY)
    bench = Bench(tmp_path, null)
    yield bench
    await bench.supervisor.stop()
    bench.console.close()
    os.close(null)


@pytest.mark.alone
async def test_a_killed_process_is_back_soon(bench: Bench) -> None:
    await bench.supervisor.start([bench.spec("one")])
    first = bench.pid("one")
    started = asyncio.get_running_loop().time()
    os.kill(first, signal.SIGKILL)
    await until(lambda: bench.pid("one") not in {0, first})

    assert asyncio.get_running_loop().time() - started < 2
    assert bench.changes.is_set()


_TWO_THREADS = """
import pathlib, signal, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
pathlib.Path(sys.argv[1]).write_text("here")
signal.pause()
"""


def cores_of(pid: int) -> list[set[int]]:
    """Of each thread."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [os.sched_getaffinity(int(one.name)) for one in threads]


async def test_a_process_keeps_to_its_cores_in_every_life(bench: Bench) -> None:
    core = max(os.sched_getaffinity(0))
    spec = replace(bench.spec("kept", _TWO_THREADS), share=Share(frozenset({core})))
    await bench.supervisor.start([spec, bench.spec("free")])
    pids = bench.supervisor.pids()
    free, kept = pids["free"][0], pids["kept"][0]

    await until(lambda: cores_of(kept) == [{core}, {core}])
    assert cores_of(free) == [os.sched_getaffinity(0)]

    os.kill(kept, signal.SIGKILL)
    await until(lambda: bench.supervisor.pids()["kept"] not in ([], [kept]))
    (again,) = bench.supervisor.pids()["kept"]
    await until(lambda: cores_of(again) == [{core}, {core}])


async def test_it_is_restarted_as_often_as_it_dies(bench: Bench) -> None:
    await bench.supervisor.start([bench.spec("one")])
    for _ in range(3):
        before = bench.pid("one")
        os.kill(before, signal.SIGKILL)
        await until(lambda before=before: bench.pid("one") not in {0, before})  # type: ignore[misc]  # mypy does not infer defaults of a lambda


async def test_a_process_that_ends_while_starting_is_an_error_with_its_last_words(
    bench: Bench,
) -> None:
    broken = bench.spec("broken", "print('no such key'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"(?s)ended with status 3.*no such key"):
        await bench.supervisor.start([broken])


async def test_a_process_that_is_never_ready_is_an_error(bench: Bench) -> None:
    with pytest.raises(StartError, match=r"(?s)not ready after 5 s.*alive"):
        await bench.supervisor.start(
            [
                bench.spec(
                    "mute", "import signal; print('alive', flush=True);signal.pause()"
                )
            ]
        )


@pytest.mark.alone
async def test_a_grandchild_that_keeps_the_output_open_does_not_delay_the_end(
    bench: Bench,
) -> None:
    orphan = "import os, signal\nif os.fork() == 0:\n    os.setsid(); signal.pause()\n"
    code = orphan + "import sys; open(sys.argv[1], 'w').close(); signal.pause()"
    await bench.supervisor.start([bench.spec("parent", code)])
    started = asyncio.get_running_loop().time()
    await bench.supervisor.stop()

    assert asyncio.get_running_loop().time() - started < 3
    assert await asyncio.to_thread(watchdog.sweep, "test-stack")


async def test_a_missing_program_is_an_error(bench: Bench) -> None:
    async def ready() -> None:
        """Never asked."""

    spec = Spec(name="none", kinds=("none",), argv=("/no/such/program",), ready=ready)
    with pytest.raises(StartError, match="cannot start none"):
        await bench.supervisor.start([spec])


async def test_output_is_kept_line_by_line(bench: Bench) -> None:
    await bench.supervisor.start([bench.spec("one")])
    await until(lambda: "hello from the child\n" in bench.log("one"))


async def test_a_terminal_that_nobody_reads_holds_no_process_up(
    tmp_path: Path,
) -> None:
    reader, writer = os.pipe()
    talkative = Bench(tmp_path, writer)
    # Sixteen times what the pipe to the supervisor and that to the terminal hold.
    code = "import sys\nfor _ in range(2048): print('x' * 1023)\n" + _SERVE
    await talkative.supervisor.start([talkative.spec("talkative", code)])
    await until(lambda: "hello from the child\n" in talkative.log("talkative"))
    await talkative.supervisor.stop()
    os.close(reader)
    talkative.console.close()
    os.close(writer)


async def test_stop_ends_what_ignores_the_polite_signal(bench: Bench) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    spec = bench.spec("deaf", stubborn + _SERVE, stop_timeout_s=0.3)
    await bench.supervisor.start([spec])
    pid = bench.pid("deaf")
    await bench.supervisor.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert "killed" in bench.log("deaf")


async def test_the_last_layer_is_stopped_first(bench: Bench) -> None:
    order: list[str] = []

    def spec(name: str) -> Spec:
        plain = bench.spec(name)

        async def note() -> None:
            order.append(name)

        return Spec(
            name=name,
            kinds=(name,),
            argv=plain.argv,
            ready=plain.ready,
            prepare=plain.prepare,
            before_stop=note,
        )

    for layer, name in ((1, "service"), (0, "engine"), (2, "proxy")):
        await bench.supervisor.start([spec(name)], layer)
    await bench.supervisor.stop()

    assert order == ["proxy", "service", "engine"]


async def test_kill_leaves_no_process(bench: Bench) -> None:
    await bench.supervisor.start([bench.spec("one"), bench.spec("two")])
    pids = [bench.pid("one"), bench.pid("two")]
    bench.supervisor.kill()
    await bench.supervisor.stop()

    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


async def test_a_child_is_in_a_session_of_its_own(bench: Bench) -> None:
    await bench.supervisor.start([bench.spec("one")])

    assert os.getsid(bench.pid("one")) == bench.pid("one")
