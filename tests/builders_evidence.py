"""Witnesses for tests: lines, files and a spool in memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from runtime.clock import FakeClock
from runtime.metrics import Metrics
from usage_sink.errors import SpoolUnavailable
from usage_sink.journal import unsettled
from usage_sink.lines import entries
from usage_sink.presence import Key, MemoryPresence
from usage_sink.recent import RecentIds
from usage_sink.segments import Kind

NOW = 1_795_318_300.0


def an_id(number: int) -> str:
    return str(UUID(int=number))


def a_start(number: int) -> str:
    return f"{int(NOW) - 60}.{number:06d}"


def a_key(number: int) -> Key:
    return number, a_start(number)


def an_admission(number: int, incarnation: str = "life-1", **changes: str) -> bytes:
    """A line of the journal, as authz writes it."""
    return json.dumps(
        {
            "id": an_id(number),
            "start": a_start(number),
            "node": "node-1",
            "incarnation": incarnation,
            "route": "users",
            "service": "core",
            "method": "GET",
            "path": "/api/users/me",
            "user_id": "u-1",
            "role": "user",
            "reason": "token",
            **changes,
        },
        separators=(",", ":"),
    ).encode()


def a_log_line(number: int, **changes: object) -> bytes:
    """A line of Envoy's file log: keys sorted, numbers as numbers, null for nothing."""
    return json.dumps(
        {
            "address": "127.0.0.1",
            "duration_ms": 3,
            "id": an_id(number),
            "llm_model": None,
            "path": "/api/users/me",
            "route": "users",
            "start": a_start(number),
            "status": 200,
            "user_id": "u-1",
            **changes,
        },
        separators=(",", ":"),
    ).encode()


@dataclass
class MemorySpool:
    """The twin of the spool: it keeps what it is given until `load`."""

    clock: FakeClock
    kept: list[tuple[Kind, bytes]] = field(default_factory=list)
    is_full: bool = False
    _pending: list[float] = field(default_factory=list)

    async def append(self, kind: Kind, payload: bytes) -> None:
        if self.is_full:
            raise SpoolUnavailable
        self.kept.append((kind, payload))
        self._pending.append(self.clock.now())

    def oldest_pending(self) -> float | None:
        return min(self._pending, default=None)

    def receive(self) -> None:
        """A batch of Envoy's has come."""
        self._pending.append(self.clock.now())

    def load(self) -> None:
        self._pending.clear()

    def ids(self) -> list[int]:
        """Of the requests in it, in order."""
        return [UUID(text).int for text in self._ids()]

    def _ids(self) -> Iterator[str]:
        for kind, payload in self.kept:
            if kind is Kind.LINES:
                yield from (said["id"] for _, said in entries(payload))
            else:
                yield from (said["id"] for _, _, said in unsettled(payload))


class Witnesses:
    """What a part under test is given."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.metrics = Metrics()
        self.presence = MemoryPresence()
        self.recent = RecentIds()
        self.spool = MemorySpool(self.clock)
