"""A process drains on the first signal, leaves on the second, explains bad settings."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from runtime import lifecycle
from runtime.settings import RedisSettings

async def main(stop):
    if "{mode}" == "settings":
        RedisSettings.from_environ({{"HUBGATE_REDIS_TIMEOUT_S": "x"}})
    print("ready", flush=True)
    stopped = await lifecycle.wait_or_stop(stop, 30)
    print("draining", stopped, flush=True)
    if "{mode}" == "stuck":
        await asyncio.sleep(30)

lifecycle.run(main)
"""


def start(mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(mode=mode)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_status_0(number: signal.Signals) -> None:
    with start("plain") as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == "draining True"
        assert process.wait(10) == 0


def test_a_second_signal_ends_at_once() -> None:
    with start("stuck") as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "draining True"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


def test_bad_settings_end_with_status_2_and_no_traceback() -> None:
    with start("settings") as process:
        _, errors = process.communicate(timeout=10)

    assert process.returncode == 2
    assert "HUBGATE_REDIS_URL: not set" in errors
    assert "HUBGATE_REDIS_TIMEOUT_S" in errors
    assert "Traceback" not in errors
