import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import local

pytestmark = pytest.mark.integration

_ROOT = Path(local.__file__).parent.parent

#: Like make: it runs us in its own process group and dies of Ctrl-C.
_PARENT = """
import fcntl, signal, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(subprocess.call([sys.executable, "-c", sys.argv[1]]))
"""
_CHILD = """
import signal, threading
from local.terminal import foreground
signal.signal(signal.SIGINT, signal.default_int_handler)
with foreground():
    try:
        print("ready", flush=True)
        threading.Event().wait(20)  # not pause(): it may begin after the signal
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_under_make_is_ours_alone() -> None:
    ours, theirs = pty.openpty()
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, _CHILD],
        cwd=_ROOT,
        stdin=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    os.write(ours, b"\x03")
    with parent.stdout:
        assert parent.stdout.read() == b"interrupted\n"
    status = parent.wait(timeout=20)
    os.close(ours)
    os.close(theirs)

    assert status == 0
