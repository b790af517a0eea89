"""Keeps Ctrl-C for ourselves when a program that cannot take it runs us.

GNU make ends with an error at Ctrl-C, whatever its command returns. As a shell does
for its jobs, we take the terminal with a process group of our own, so that the
signal comes here alone and `make up` ends with our status.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

_STDIN = 0


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Own the terminal inside the block, if there is one and its group is not ours."""
    if not _shares_terminal():
        yield
        return
    before = os.getpgrp()
    # The parent would not notice a stop and wait for ever.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    # Whoever changes the terminal's group from the background is stopped otherwise.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(_STDIN, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(_STDIN, before)


def _shares_terminal() -> bool:
    try:
        here = os.getpgrp()
        return os.tcgetpgrp(_STDIN) == here and here != os.getpid()
    except OSError:  # no terminal
        return False
