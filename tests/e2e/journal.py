"""A client that writes down every request it sends, and compares with the ledger."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from runtime.clock import SystemClock

_CLOCK = SystemClock()
#: More than this under way at once, and the client only waits for itself.
MOST_AT_ONCE = 256

OPENAI = "/api/mcp/openai/v1/chat/completions"
ANTHROPIC = "/api/mcp/anthropic/v1/messages"
_MESSAGES = [{"role": "user", "content": "how many tokens is this?"}]
_CHAT = {"model": "gpt-4o-mini", "messages": _MESSAGES}
_STREAM = {
    "model": "claude-haiku-4-5",
    "messages": _MESSAGES,
    "max_tokens": 64,
    "stream": True,
}


@dataclass(slots=True)
class Sent:
    """One request as the client saw it; without id it was never answered."""

    started: float
    id: UUID | None = None
    status: int | None = None
    tokens: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the ledger says about what the client sent."""

    answered: int
    unanswered: int
    rows: int
    lost: frozenset[UUID]
    doubled: int
    unknown: int
    unsettled: frozenset[UUID]
    miscounted: frozenset[UUID]

    @property
    def is_exact(self) -> bool:
        """A row that the client knows nothing of is a request without an answer."""
        return (
            not self.lost
            and not self.doubled
            and not self.miscounted
            and self.unknown <= self.unanswered
        )


@dataclass(slots=True)
class Journal:
    """Requests of one user; every third is an AI call, JSON and SSE in turn."""

    gateway: str
    user: str
    token: str
    sent: list[Sent] = field(default_factory=list)

    async def load(self, rate: float, stop: asyncio.Event) -> None:
        """Send `rate` requests a second until `stop`, whatever becomes of them."""
        limits = httpx.Limits(max_connections=MOST_AT_ONCE)
        turn, under_way = 0, set[asyncio.Task[None]]()
        started = _CLOCK.monotonic()
        async with httpx.AsyncClient(
            base_url=self.gateway,
            headers={"authorization": f"Bearer {self.token}"},
            limits=limits,
            timeout=10,
            trust_env=False,
        ) as client:
            while not stop.is_set():
                due = int((_CLOCK.monotonic() - started) * rate)
                for _ in range(min(due - turn, MOST_AT_ONCE - len(under_way))):
                    turn += 1
                    task = asyncio.create_task(self._send(client, turn))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                turn = max(turn, due)
                await asyncio.sleep(0.005)
            await asyncio.gather(*under_way)

    async def reaches(self, count: float) -> None:
        """Wait until so many requests have been sent."""
        async with asyncio.timeout(30):
            while len(self.sent) < count:
                await asyncio.sleep(0.02)

    async def has_answers(self, count: float) -> None:
        """Wait until so many of them have been answered."""
        async with asyncio.timeout(30):
            while sum(one.id is not None for one in self.sent) < count:
                await asyncio.sleep(0.02)

    async def _send(self, client: httpx.AsyncClient, turn: int) -> None:
        sent = Sent(_CLOCK.now())
        self.sent.append(sent)
        began = _CLOCK.monotonic()
        try:
            await self._ask(client, turn, sent)
        except httpx.TransportError:
            return
        finally:
            sent.seconds = _CLOCK.monotonic() - began

    async def _ask(self, client: httpx.AsyncClient, turn: int, sent: Sent) -> None:
        path, body = [
            ("/api/users/me", None),
            (OPENAI, _CHAT),
            ("/api/credits/balance", None),
            ("/api/users/me", None),
            (ANTHROPIC, _STREAM),
            ("/api/credits/balance", None),
        ][turn % 6]
        method = "GET" if body is None else "POST"
        async with client.stream(method, path, json=body) as answer:
            sent.id = UUID(answer.headers["x-request-id"])
            sent.status = answer.status_code
            text = (await answer.aread()).decode()
        if body is not None and answer.status_code == 200:
            sent.tokens = _tokens(text)

    async def compare(self, database_url: str) -> Agreement:
        """With the ledger as it is now."""
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            rows = await connection.fetch(
                "SELECT id, outcome, tokens FROM usage_logs "
                "WHERE user_id = $1 OR id = ANY ($2::uuid[])",
                self.user,
                # While nobody can say who asks, a row has no user.
                [one.id for one in self.sent if one.id is not None],
            )
        finally:
            await connection.close()
        return agreement(self.sent, [dict(row) for row in rows])

    async def settled(self, database_url: str, seconds: float) -> Agreement:
        """The comparison as soon as it is exact; else the last one in time."""
        deadline = _CLOCK.monotonic() + seconds
        while True:
            found = await self.compare(database_url)
            if found.is_exact or _CLOCK.monotonic() > deadline:
                return found
            await asyncio.sleep(0.3)


def agreement(sent: Iterable[Sent], rows: list[dict[str, Any]]) -> Agreement:
    sent = list(sent)
    answered = {one.id: one for one in sent if one.id is not None}
    found = {row["id"]: row for row in rows}
    unsettled = {id_ for id_, row in found.items() if row["outcome"] == "unsettled"}
    miscounted = {
        id_
        for id_, one in answered.items()
        if one.tokens is not None
        and id_ in found
        and id_ not in unsettled
        and found[id_]["tokens"] != one.tokens
    }
    return Agreement(
        answered=len(answered),
        unanswered=sum(one.id is None for one in sent),
        rows=len(rows),
        lost=frozenset(answered.keys() - found.keys()),
        doubled=len(rows) - len(found),
        unknown=len(found.keys() - answered.keys()),
        unsettled=frozenset(unsettled),
        miscounted=frozenset(miscounted),
    )


def _tokens(text: str) -> int:
    """The provider's own count, from a JSON answer or the events of a stream."""
    if not text.startswith("event:"):
        return int(json.loads(text)["usage"]["total_tokens"])
    total = 0
    for line in text.splitlines():
        if line.startswith("data:"):
            event = json.loads(line.removeprefix("data:"))
            if event["type"] == "message_start":
                usage = event["message"]["usage"]
                total += sum(
                    usage.get(name, 0)
                    for name in (
                        "input_tokens",
                        "cache_read_input_tokens",
                        "cache_creation_input_tokens",
                    )
                )
            elif event["type"] == "message_delta":
                total += event["usage"]["output_tokens"]
    return total
