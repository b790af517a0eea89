import asyncio
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local import watchdog
from local.guard import Guard

pytestmark = pytest.mark.integration

_ROOT = Path(watchdog.__file__).parent.parent

#: Two children: one with a grandchild that left its session, one deaf to signals.
_SUPERVISOR = """
import asyncio, os, pathlib, sys
from local.console import Console, Style
from local.guard import Guard
from local.child import Spec
from local.processes import Supervisor

PARENT = '''
import os, signal
if os.fork() == 0:
    os.setsid()
signal.pause()
'''
DEAF = '''
import signal
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
signal.pause()
'''

async def main():
    async def ready():
        pass
    null = os.open(os.devnull, os.O_WRONLY)
    supervisor = Supervisor(
        stack=sys.argv[1], environ=dict(os.environ), logs=pathlib.Path(sys.argv[2]),
        console=Console(Style.PLAIN, stdout=null, stderr=null))
    guard = Guard(sys.argv[1])
    await guard.start()
    await supervisor.start([
        Spec(name=name, kinds=(name,), ready=ready, argv=(sys.executable, "-c", code))
        for name, code in (("parent", PARENT), ("deaf", DEAF))])
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def _until_count(stack: str, count: int) -> None:
    async with asyncio.timeout(20):
        while len(watchdog.members(stack)) != count:
            await asyncio.sleep(0.05)


async def test_kill_9_of_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    stack = secrets.token_hex(8)
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SUPERVISOR, stack, str(tmp_path)),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    assert await supervisor.stdout.readline() == b"ready\n"
    await _until_count(stack, 3)
    supervisor.send_signal(signal.SIGKILL)
    await supervisor.wait()
    await _until_count(stack, 0)


async def test_a_process_is_recognised_by_its_command_line_too() -> None:
    stack = secrets.token_hex(8)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import signal; signal.pause()"),
        watchdog.title(stack),
    )
    assert watchdog.members(stack) == [process.pid]
    assert await asyncio.to_thread(watchdog.sweep, stack)
    await process.wait()


async def test_the_caller_is_not_a_member() -> None:
    stack = secrets.token_hex(8)
    code = (
        "import sys; from local import watchdog;"
        "print(watchdog.members(sys.argv[1]), watchdog.sweep(sys.argv[1]))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, stack),
        cwd=_ROOT,
        env={watchdog.MARKER: stack},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert output == b"[] True\n"


async def test_a_killed_watchdog_is_replaced() -> None:
    guard = Guard(secrets.token_hex(8))
    await guard.start()
    first = guard._process
    assert first is not None
    first.kill()
    async with asyncio.timeout(10):
        while guard._process is first:
            await asyncio.sleep(0.02)
    second = guard._process
    await guard.stop()

    assert second is not None
    assert second.returncode == 0
