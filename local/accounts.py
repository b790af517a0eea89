"""PostgreSQL refuses to run as root: this finds it a user, and a way in.

As root the server runs under a system user of its own. When that user cannot reach
the binaries or the data (a checkout in root's 0700 home), no permission is changed:
the process alone gets the capability to read and search past them.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.errors import LocalError

ACCOUNT = "hubgate-postgres"
_FALLBACK = "nobody"
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Account:
    """A system user to run as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Way:
    """How to run a command: as whom, and behind which command."""

    account: Account | None = None  # None: as the caller
    prefix: tuple[str, ...] = ()

    def run(self, *argv: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command lines
            [*self.prefix, *argv],
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
            **identity(self.account),
        )

    def reaches(self, binary: Path, folder: Path) -> bool:
        """Whether it may execute the one and enter the other."""
        test = 'test -x "$0" && test -x "$1" && test -r "$1"'
        argv = ("/bin/sh", "-c", test, str(binary), str(folder))
        try:
            return self.run(*argv, timeout_s=_TIMEOUT_S).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False


def find_account(owner_of: Path) -> Account | None:
    """Whom PostgreSQL runs as; None: as the caller, who is not root.

    An existing cluster is run by its owner, who alone may open it.
    """
    if os.geteuid() != 0:
        check_name()
        return None
    if owner_of.exists() and (uid := owner_of.stat().st_uid) != 0:
        return _account(uid)
    return _named(ACCOUNT) or _create(ACCOUNT) or _named(_FALLBACK) or _complain()


def check_name() -> None:
    """Refuse a user without a name, as containers have them: initdb would too.

    Raises:
        LocalError: names the remedy.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise LocalError(
            f"user ID {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL"
            " needs: add one, or set HUBGATE_DATABASE_URL to a server of your own"
        ) from None


def existing_name() -> str | None:
    """The system user that PostgreSQL would run as, if it is there already."""
    return ACCOUNT if _named(ACCOUNT) is not None else None


def find_way(account: Account | None, binary: Path, folder: Path) -> Way:
    """The least privileged way in which the account reaches binary and folder.

    Raises:
        LocalError: there is none; says what is in the way.
    """
    ways = [Way(account)]
    if account is not None and (setpriv := shutil.which("setpriv")) is not None:
        ways.append(Way(None, _with_capability(setpriv, account)))
    for way in ways:
        if way.reaches(binary, folder):
            return way
    name = "this user" if account is None else f"the system user {account.name}"
    obstacle = _obstacle(account, (binary, folder))
    raise LocalError(
        f"PostgreSQL runs as {name}, who cannot pass {obstacle}: run hubgate as an"
        " ordinary user, or move the checkout and --data-dir to a place that others"
        " may enter, or set HUBGATE_DATABASE_URL to a server of your own"
    )


def _with_capability(setpriv: str, account: Account) -> tuple[str, ...]:
    # no_setuid_fixup: without it access(2), by which PostgreSQL finds its own
    # programs, ignores the capability.
    return (
        *(setpriv, f"--reuid={account.uid}", f"--regid={account.gid}"),
        *("--clear-groups", "--securebits=+no_setuid_fixup"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
    )


def identity(account: Account | None) -> dict[str, Any]:
    """Arguments for `subprocess.Popen`."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a volume from elsewhere; a number is enough
        return Account(str(uid), uid, uid)
    return Account(entry.pw_name, uid, entry.pw_gid)


def _named(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    shell = ("--shell", "/usr/sbin/nologin")
    argv = (useradd, "--system", "--no-create-home", *shell, name)
    Way().run(*argv, timeout_s=_TIMEOUT_S)  # may fail: two stacks start at once
    return _named(name)


def _complain() -> Account:
    raise LocalError(
        f"PostgreSQL refuses to run as root, and there is no user {ACCOUNT} or"
        f" {_FALLBACK}: create one with useradd, or run hubgate as an ordinary user"
    )


def _obstacle(account: Account | None, paths: Sequence[Path]) -> str:
    way = Way(account)
    for path in paths:
        for step in (*reversed(path.resolve().parents), path.resolve()):
            if not way.reaches(step, Path("/")):
                return f"{step} (mode {step.stat().st_mode & 0o7777:04o})"
    return " or ".join(str(path) for path in paths)
