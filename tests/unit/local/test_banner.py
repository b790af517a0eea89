import json
import shlex
from pathlib import Path
from typing import Any

from local import banner, table
from local.settings import Settings

_FACTS: dict[str, Any] = {
    "event": "ready",
    "gateway": "http://127.0.0.1:3000",
    "control": "http://127.0.0.1:8000",
    "envoy_admin": "http://127.0.0.1:9901",
    "redis_url": "redis://:r@127.0.0.1:6379/0",
    "database_url": "postgresql://hubgate:p@127.0.0.1:5432/hubgate",
    "admin_token": "the-admin-token",
    "pids": {},
    "data_dir": "/srv/hubgate",
    "audit_file": "/srv/hubgate/logs/audit.jsonl",
}
_TOKENS = {"user": "u.u.u", "manager": "m.m.m", "admin": "a.a.a"}


def _shown(facts: dict[str, Any], *, as_json: bool = False) -> str:
    settings = Settings(data_dir=Path("/d"), config=Path("/c"), json=as_json)
    return banner.show(settings)(facts)


def test_json_is_the_facts_on_one_line() -> None:
    line = _shown(_FACTS, as_json=True)

    assert "\n" not in line
    assert json.loads(line) == _FACTS


def test_people_see_addresses_tokens_and_four_commands() -> None:
    text = _shown({**_FACTS, "tokens": _TOKENS})
    commands = [line for line in text.splitlines() if line.startswith("  curl ")]

    assert len(commands) == 4
    assert all(token in text for token in _TOKENS.values())
    assert "http://127.0.0.1:9901" in text


def test_people_see_where_attempts_are_written_unless_they_are_shown() -> None:
    assert "tail -F /srv/hubgate/logs/audit.jsonl" in _shown(_FACTS)
    assert "tail" not in _shown({**_FACTS, "audit_file": ""})


def test_the_chat_command_is_valid_shell_with_a_json_body() -> None:
    text = _shown({**_FACTS, "tokens": _TOKENS})
    (command,) = [line for line in text.splitlines() if "openai" in line]
    words = shlex.split(command)

    assert json.loads(words[words.index("-d") + 1])["messages"][0]["role"] == "user"
    assert "Authorization: Bearer u.u.u" in words


def test_without_the_demo_there_are_no_tokens_to_try() -> None:
    assert "curl" not in _shown(_FACTS)


def test_usage_is_aligned_and_gaps_are_dashes() -> None:
    item = {"createdAt": "2026-01-01", "userId": "a-long-user", "service": "openai"}
    header, row = table.usage([{**item, "tokens": 0}]).splitlines()

    assert header.index("service") == row.index("openai")
    assert row.split() == ["2026-01-01", "a-long-user", "openai", "-", "0", "-"]
