"""The database's logins on one machine: made by its owner before any service starts.

Only for the embedded server. On one that was given, other installations may have
logins of the same names, so there every service uses the role of its URL.
"""

import asyncio
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from local.errors import LocalError
from local.files import kept_secret

#: Who logs in -> as whom (`usage_sink.migrate`, `control.migrate`).
LOGINS = {
    "usage_sink": "hubgate_usage_sink",
    "archive": "hubgate_archive",
    "control": "hubgate_control",
}
_MIGRATED = ("usage_sink", "control")
_DEADLINE_S = 60.0
_SECRET_BYTES = 24


def password_files(folder: Path) -> dict[str, Path]:
    """Files with each login's password; made the first time."""
    files = {who: folder / f"{who}.password" for who in LOGINS}
    for file in files.values():
        kept_secret(file, lambda: secrets.token_hex(_SECRET_BYTES).encode())
    return files


def urls(owner: str, files: Mapping[str, Path]) -> dict[str, str]:
    """The owner's URL with each login's own name and password."""
    parts = urlsplit(owner)
    place = f"{parts.hostname}:{parts.port}"
    return {
        who: parts._replace(
            netloc=f"{LOGINS[who]}:{file.read_text().strip()}@{place}"
        ).geturl()
        for who, file in files.items()
    }


async def migrate(
    owner: str, files: Mapping[str, Path], environ: Mapping[str, str]
) -> None:
    """Bring the tables up to date and make the logins.

    Raises:
        LocalError: with what was said.
    """
    variables = {
        f"HUBGATE_{who.upper()}_PASSWORD_FILE": str(file) for who, file in files.items()
    }
    environ = {**environ, **variables, "HUBGATE_DATABASE_URL": owner}
    await asyncio.gather(*(_run(package, environ) for package in _MIGRATED))


async def _run(package: str, environ: Mapping[str, str]) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", f"{package}.migrate"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            output, _ = await child.communicate()
    except TimeoutError:
        raise LocalError(
            f"the tables of {package} were not ready after {_DEADLINE_S:g} s"
        ) from None
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        said = output.decode(errors="replace").strip()
        raise LocalError(f"cannot prepare the tables of {package}:\n{said}")
