"""Access-log records in batches, as an Envoy under load sends them."""

import random
from typing import Any
from uuid import UUID

from runtime.contracts.access_log import (
    ACCESS_LOG_ATTRIBUTES,
    LOG_FIELDS,
    LOG_FREE_TEXTS,
    LOG_SEPARATOR,
)
from usage_sink import otlp

BATCH = 180  # records of one Export call: 56 KiB, Envoy's batch under load
TEMPLATES = 200
USERS = 10_000
MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4o-realtime")
_ID = "00000000-0000-4000-8000-000000000000"
_START = "1000000000.000000"


class Traffic:
    """Batches as Envoy sends them; a third of the calls are AI calls.

    Made from templates, with a new id and start in each record: the sender's own
    cost must stay small beside what is measured.
    """

    def __init__(self, now: float) -> None:
        self._random = random.Random(7)  # noqa: S311 - the same traffic every time
        self._microsecond = round(now * 1_000_000)
        self._templates = [self._template() for _ in range(TEMPLATES)]

    def export(self) -> bytes:
        template, ids, starts = self._random.choice(self._templates)
        batch = bytearray(template)
        for at in ids:
            text = str(UUID(int=self._random.getrandbits(128), version=4))
            batch[at : at + len(text)] = text.encode()
        for at in starts:
            self._microsecond += self._random.randrange(1, 100)
            second, micro = divmod(self._microsecond, 1_000_000)
            batch[at : at + len(_START)] = b"%d.%06d" % (second, micro)
        return bytes(batch)

    def _template(self) -> tuple[bytes, list[int], list[int]]:
        request: Any = otlp.ExportRequest()
        logs = request.resource_logs.add()
        joined = [one for one in ACCESS_LOG_ATTRIBUTES if one not in LOG_FREE_TEXTS]
        for key, text in (("node_name", "node-1"), (LOG_FIELDS, ",".join(joined))):
            logs.resource.attributes.add(key=key).value.string_value = text
        scope = logs.scope_logs.add()
        for _ in range(BATCH):
            record = scope.log_records.add()
            entry = dict.fromkeys(ACCESS_LOG_ATTRIBUTES, "-") | self._entry()
            texts = [entry[name] for name in joined]
            record.body.string_value = LOG_SEPARATOR.join(texts)
            for name in LOG_FREE_TEXTS:
                record.attributes.add(key=name).value.string_value = entry[name]
        data = bytes(request.SerializeToString())
        return data, places(data, _ID.encode()), places(data, _START.encode())

    def _entry(self) -> dict[str, str]:
        entry = {
            **an_entry(ai=self._random.random() < 1 / 3),
            "id": _ID,
            "start": _START,
            "user_id": f"user-{self._random.randrange(USERS)}",
            "session_id": f"session-{self._random.randrange(10**9)}",
            "duration_ms": str(self._random.randrange(5000)),
        }
        if entry["llm_model"] != "-":
            entry["llm_model"] = self._random.choice(MODELS)
        return entry


def places(data: bytes, text: bytes) -> list[int]:
    found, at = [], data.find(text)
    while at >= 0:
        found.append(at)
        at = data.find(text, at + 1)
    return found


def an_entry(*, ai: bool) -> dict[str, str]:
    return {
        "route": "openai" if ai else "users",
        "service": "mcp-server" if ai else "core-service",
        "method": "POST",
        "path": "/api/mcp/openai/v1/chat/completions",
        "protocol": "HTTP/1.1",
        "status": "200",
        "flags": "-",
        "details": "via_upstream",
        "duration_ms": "412",
        "upstream_ms": "410",
        "bytes_received": "812",
        "bytes_sent": "1931",
        "address": "192.0.2.7",
        "upstream": "127.0.0.1:3003",
        "role": "user",
        "reason": "-",
        "ai": "true" if ai else "-",
        "llm_protocol": "1" if ai else "-",
        "llm_model": MODELS[0] if ai else "-",
        "llm_status": "1" if ai else "-",
        "llm_input": "1010" if ai else "-",
        "llm_output": "230" if ai else "-",
        "llm_total": "1240" if ai else "-",
        "llm_cached": "640" if ai else "-",
        "usage_service": "-",
        "usage_model": "-",
        "usage_input": "-",
        "usage_output": "-",
        "usage_credits": "-",
        "conversation_id": "conversation-0123456789abcdef0123456789abcdef",
    }
