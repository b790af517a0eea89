"""One request's whole story, from what was kept of it. Pure.

Nothing is asked of the present: the limits are those that the row itself keeps, the
route's policy is that of the newest revision that was active when the request began,
and the credits are worked out again from the prices of the version that the row names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Protocol
from uuid import UUID

from control.documents import prices_document
from control.model import GatewayConfig, Price
from control.parameters import shown
from control.parse import ConfigRefused, from_document
from control.store import Revision, StoreUnavailable
from control.usage import UsageRow
from runtime.contracts import Outcome, Pricing

ADJUSTED: Final = (
    *("tokens", "input_tokens", "output_tokens", "cached_tokens"),
    *("reasoning_tokens", "credits"),
)
_PER_1000: Final = Decimal(1000)
_WITHOUT_PRICE: Final = {
    Pricing.FREE: "not an AI call: free",
    Pricing.REPORTED: "the upstream said how many credits it took; rounded up",
    Pricing.UNPRICED: "no price covers it, or nobody counted its tokens",
}
#: `billing.totalCost` is read as a float.
_TOLERANCE: Final = Decimal("1E-9")


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
        "price": _price(row, [one for one in (then, config) if one is not None]),
        "row": {_camel(name): _plain(value) for name, value in row.items()},
        "seal": _seal(story.seal),
        "adjustments": [
            {
                **{_camel(name): _plain(value) for name, value in one.row.items()},
                "seal": _seal(one.seal),
            }
            for one in story.adjustments
        ],
        "totals": {
            _camel(name): (row[name] or 0)
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


def _price(row: UsageRow, books: Sequence[GatewayConfig]) -> dict[str, Any]:
    arithmetic, reason = _arithmetic(row, books)
    return {
        "pricing": row["pricing"],
        "version": row["price_version"],
        "credits": row["credits"],
        "billing": row["metadata"].get("billing"),
        "arithmetic": arithmetic,
        "arithmeticReason": reason,
    }


def _arithmetic(
    row: UsageRow, books: Sequence[GatewayConfig]
) -> tuple[dict[str, Any] | None, str | None]:
    if row["pricing"] != Pricing.PRICED:
        return None, _WITHOUT_PRICE[row["pricing"]]
    version = row["price_version"]
    for config in books:
        if prices_document(config)["version"] == version:
            price = _find(config.prices, row)
            if price is not None:
                return _terms(row, price), None
    return None, f"the prices of version {version!r} are in no known configuration"


def _find(prices: Sequence[Price], row: UsageRow) -> Price | None:
    """As usage_sink chooses: the most specific pattern, then the latest date."""
    day = row["created_at"].date()
    fitting = [
        one
        for one in prices
        if one.service == row["service"]
        and one.valid_from <= day
        and _pattern(one.model).fullmatch(row["model"] or "")
    ]
    return max(fitting, key=lambda one: (_literals(one), one.valid_from), default=None)


def _terms(row: UsageRow, price: Price) -> dict[str, Any]:
    given, cached = row["input_tokens"] or 0, row["cached_tokens"] or 0
    cached = min(cached, given)
    by_input = price.input_per_1000
    by_cached = by_input if price.cached_per_1000 is None else price.cached_per_1000
    amounts = (
        ("input", given - cached, by_input),
        ("cached", cached, by_cached),
        ("output", row["output_tokens"] or 0, price.output_per_1000),
    )
    terms = [
        {
            "what": what,
            "tokens": tokens,
            "creditsPer1000": _text(rate),
            "credits": _text(tokens * rate / _PER_1000),
        }
        for what, tokens, rate in amounts
    ]
    by_token = sum((tokens * rate for _, tokens, rate in amounts), Decimal(0))
    exact = by_token / _PER_1000 + price.per_call
    whole = int(exact.to_integral_value(ROUND_CEILING))
    billed = row["metadata"].get("billing", {}).get("totalCost", 0)
    return {
        "price": {
            "service": price.service,
            "model": price.model,
            "from": price.valid_from.isoformat(),
        },
        "terms": terms,
        "perCall": _text(price.per_call),
        "exact": _text(exact),
        "rounding": "up to a whole credit",
        "credits": whole,
        "agrees": whole == row["credits"]
        and abs(Decimal(str(billed)) - exact) <= _TOLERANCE * max(1, exact),
    }


def _config_of(revision: Revision | None) -> GatewayConfig | None:
    if revision is None:
        return None
    try:
        config: GatewayConfig = from_document(revision.document)
    except ConfigRefused:  # of a version with other rules
        return None
    return config


def _pattern(glob: str) -> re.Pattern[str]:
    known = {"*": ".*", "?": "."}
    parts = (known.get(one, re.escape(one)) for one in re.split(r"(\*|\?)", glob))
    return re.compile("".join(parts), re.DOTALL)


def _literals(price: Price) -> int:
    return len(price.model) - price.model.count("*") - price.model.count("?")


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


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return shown(value)
    return str(value) if isinstance(value, UUID) else value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
