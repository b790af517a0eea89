"""One request's whole story, from what was kept of it. Pure.

Nothing is asked of the present: the limits are those that the row itself keeps, the
route's policy is that of the newest revision that was active when the request began,
and the credits are worked out again from the prices of the version that the row names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from control.explain_price import price
from control.model import GatewayConfig
from control.parameters import shown
from control.parse import ConfigRefused, from_document
from control.store import Revision, StoreUnavailable
from control.usage import UsageRow, camel, plain
from runtime.contracts import Outcome

ADJUSTED: Final = (
    *("tokens", "input_tokens", "output_tokens", "cached_tokens"),
    *("reasoning_tokens", "credits"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A link of a hash chain; `is_linked`: it follows the head before it."""

    chain: str
    node: str
    seal: int
    day: str
    rows: int
    digest: str
    previous: str
    head: str
    sealed_at: datetime
    is_linked: bool


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction: what it adds, and why."""

    row: Mapping[str, Any]
    seal: Seal | None


@dataclass(frozen=True, slots=True)
class Story:
    """What the database keeps of a request; `revision` was in force when it began."""

    row: UsageRow
    seal: Seal | None
    adjustments: Sequence[Adjustment]
    revision: Revision | None


class Stories(Protocol):
    """Reads what was kept; raises StoreUnavailable or QueryTimeout."""

    async def of(self, request_id: UUID) -> Story | None:
        """None: the ledger has no such row."""


class MemoryStories:
    """For tests and tools: by request id."""

    def __init__(self) -> None:
        self.kept: dict[UUID, Story] = {}
        self.is_available = True

    async def of(self, request_id: UUID) -> Story | None:
        if not self.is_available:
            raise StoreUnavailable
        return self.kept.get(request_id)


def explain(
    story: Story, config: GatewayConfig, through: datetime | None
) -> dict[str, Any]:
    """As the API shows it; `config` is in force now, and may have the prices."""
    row, then = story.row, _config_of(story.revision)
    metadata = row["metadata"]
    gateway = metadata.get("gateway", {})
    began: datetime = row["created_at"]
    return {
        "requestId": str(row["id"]),
        "route": _route(row, then, story.revision),
        "identity": {"userId": row["user_id"], "role": row["role"]},
        "verdict": _verdict(row, metadata),
        "limits": gateway.get("limits", []),
        "upstream": {
            "service": row["service"],
            "address": gateway.get("upstream"),
            "flags": gateway.get("flags"),
            "details": gateway.get("details"),
        },
        "timings": {
            "startedAt": shown(began),
            "firstByteMs": gateway.get("firstByteTime"),
            "totalMs": row["duration_ms"],
            "endedAt": shown(began + timedelta(milliseconds=row["duration_ms"])),
            "recordedAt": shown(row["recorded_at"]),
        },
        "tokens": {
            "source": row["usage_source"],
            "total": row["tokens"],
            "input": row["input_tokens"],
            "output": row["output_tokens"],
            "cached": row["cached_tokens"],
            "reasoning": row["reasoning_tokens"],
        },
        "price": price(row, [one for one in (then, config) if one is not None]),
        "row": {camel(name): plain(value) for name, value in row.items()},
        "seal": _seal(story.seal),
        "adjustments": [
            {
                **{camel(name): plain(value) for name, value in one.row.items()},
                "seal": _seal(one.seal),
            }
            for one in story.adjustments
        ],
        "totals": {
            camel(name): (row[name] or 0)
            + sum(one.row[name] for one in story.adjustments)
            for name in ADJUSTED
        },
        "completeThrough": None if through is None else shown(through),
    }


def _route(
    row: UsageRow, then: GatewayConfig | None, revision: Revision | None
) -> dict[str, Any]:
    routes = () if then is None else then.routes
    policy = next((one for one in routes if one.id == row["route"]), None)
    return {
        "id": row["route"],
        "policy": None if policy is None else policy.model_dump(mode="json"),
        "revision": None if revision is None else revision.rev,
        "revisionSince": None if revision is None else shown(revision.created_at),
    }


def _verdict(row: UsageRow, metadata: Mapping[str, Any]) -> dict[str, Any]:
    outcome = row["outcome"]
    denied, limited = outcome == Outcome.DENIED, outcome == Outcome.LIMITED
    reason = metadata.get("response", {}).get("reason")
    return {
        "outcome": outcome,
        "status": row["status"],
        "isAdmitted": not (denied or limited),
        "reason": reason or ("RATE_LIMIT_EXCEEDED" if limited else None),
        "decidedBy": "authz" if denied else "ratelimit" if limited else None,
    }


def _config_of(revision: Revision | None) -> GatewayConfig | None:
    if revision is None:
        return None
    try:
        config: GatewayConfig = from_document(revision.document)
    except ConfigRefused:  # of a version with other rules
        return None
    return config


def _seal(seal: Seal | None) -> dict[str, Any] | None:
    if seal is None:
        return None
    return {
        "chain": seal.chain,
        "node": seal.node,
        "seal": seal.seal,
        "day": seal.day,
        "rows": seal.rows,
        "digest": seal.digest,
        "previous": seal.previous,
        "head": seal.head,
        "sealedAt": shown(seal.sealed_at),
        "isLinked": seal.is_linked,
    }
