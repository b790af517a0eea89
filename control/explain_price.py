"""A request's credits, worked out again from the prices that its row names. Pure."""

import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from control.documents import prices_document
from control.model import GatewayConfig, Price
from control.usage import UsageRow
from runtime.contracts import MOST_CREDITS, Pricing

_PER_1000: Final = Decimal(1000)
_WITHOUT_PRICE: Final = {
    Pricing.FREE: "not an AI call: free",
    Pricing.REPORTED: "the upstream said how many credits it took; rounded up",
    Pricing.UNPRICED: "no price covers it, or nobody counted its tokens",
}
#: `billing.totalCost` is read as a float.
_TOLERANCE: Final = Decimal("1E-9")


def price(row: UsageRow, books: Sequence[GatewayConfig]) -> dict[str, Any]:
    """As the API shows it; `books` may have the prices, the likeliest first."""
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
            found = _find(config.prices, row)
            if found is not None:
                return _terms(row, found), None
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
    charged = min(whole, MOST_CREDITS)
    cut = f", and to {MOST_CREDITS} at most" if charged < whole else ""
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
        "rounding": f"up to a whole credit{cut}",
        "credits": charged,
        "agrees": charged == row["credits"]
        and abs(Decimal(str(billed)) - exact) <= _TOLERANCE * max(1, exact),
    }


def _pattern(glob: str) -> re.Pattern[str]:
    known = {"*": ".*", "?": "."}
    parts = (known.get(one, re.escape(one)) for one in re.split(r"(\*|\?)", glob))
    return re.compile("".join(parts), re.DOTALL)


def _literals(price: Price) -> int:
    return len(price.model) - price.model.count("*") - price.model.count("?")


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
