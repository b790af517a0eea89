"""The entry point in this process: what each service builds and lets go of again."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from local.demo.__main__ import SERVICES, main


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Put back the logging that the service configures for its own process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_is_told_to_stop_starts_and_returns(
    name: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "jwt.secret"
    secret.write_bytes(b"k" * 32)
    monkeypatch.setenv("HUBGATE_DEMO_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HUBGATE_REDIS_URL", redis_url)
    monkeypatch.setenv("HUBGATE_JWT_SECRET_FILE", str(secret))
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(20):
        await SERVICES[name](stop)


def test_missing_settings_end_the_process_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HUBGATE_DEMO_LISTEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["core"])
    assert ended.value.code == 2
    assert "HUBGATE_DEMO_LISTEN" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["billing"], ["core", "mcp"]])
def test_anything_but_one_service_is_answered_with_the_usage(
    arguments: list[str],
) -> None:
    with pytest.raises(SystemExit, match=r"usage: .* auth\|core\|mcp"):
        main(arguments)
