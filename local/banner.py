"""What `hubgate up` prints when everything is ready."""

import json
import shlex
from collections.abc import Callable
from typing import Any

from local.settings import Settings

Facts = dict[str, Any]


def show(settings: Settings) -> Callable[[Facts], str]:
    """The way to render the ready line's content that was asked for."""
    if settings.json:
        return lambda facts: json.dumps(facts, separators=(",", ":"))
    return _for_people


def _for_people(facts: Facts) -> str:
    lines = [
        "",
        "hubgate is ready; Ctrl-C stops it",
        "",
        f"  gateway      {facts['gateway']}",
        f"  control API  {facts['control']}",
        f"  Envoy admin  {facts['envoy_admin']}",
        f"  Redis        {facts['redis_url']}",
        f"  PostgreSQL   {facts['database_url']}",
        f"  data, logs   {facts['data_dir']}",
        *_attempts(facts["audit_file"]),
        "",
        f"  admin token of the control API: {facts['admin_token']}",
    ]
    tokens = facts.get("tokens")
    if tokens:
        lines += _tokens(tokens) + _examples(facts["gateway"], tokens["user"])
    return "\n".join([*lines, ""])


def _attempts(audit_file: str) -> list[str]:
    """Without a file they are shown here."""
    return [f"  who asks     tail -F {shlex.quote(audit_file)}"] if audit_file else []


def _tokens(tokens: dict[str, str]) -> list[str]:
    lines = ["", "Tokens for the gateway, valid for 24 hours:", ""]
    return lines + [f"  {role:<8} {token}" for role, token in tokens.items()]


def _examples(gateway: str, token: str) -> list[str]:
    bearer = f'-H "Authorization: Bearer {token}"'
    chat = json.dumps(
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    )
    json_body = f"-H 'Content-Type: application/json' -d '{chat}'"
    return [
        *("", "Try:", ""),
        f"  curl -i {bearer} {gateway}/api/users/me",
        f"  curl -i {bearer} {json_body} {gateway}/api/mcp/openai/v1/chat/completions",
        f"  curl -i {bearer} {gateway}/api/usage/logs",
        f"  curl -i {gateway}/api/users/me",
        f"  in a browser: {gateway}/console (name demo-user, password demo)",
    ]
