"""The price book: what an AI call costs, exactly. Pure; Decimal from end to end.

Rounding rule: credits = the exact cost rounded up (ROUND_CEILING) to a whole credit,
once per call. A priced call therefore costs 0 credits only if its exact cost is 0;
the exact cost itself is kept in the row's `metadata.billing.totalCost`.

Cached tokens: a call's `input_tokens` includes `cached_tokens` (see `events`), so the
cached ones are charged at the cached rate and only the remainder at the input rate.
A price without a cached rate charges them as input.

Choice of price: the same service; a model pattern that matches (`*` any text, `?` one
character); `from` not after the call's start. Of these the most specific pattern
(most literal characters), and of its prices the latest `from`.

Effective dates are UTC days.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Any, Final

from runtime.contracts import MOST_CREDITS, Pricing
from usage_sink.errors import BadPriceBook
from usage_sink.events import Usage, UsageEvent

CURRENCY: Final = "credits"

#: Rates below 10^12 with 12 decimals times tokens below 2^31: 34 digits at most.
_EXACT: Final = Context(prec=60)
_RATE: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
_ZERO: Final = Decimal(0)
_RATES: Final = ("input_per_1000", "output_per_1000", "cached_per_1000", "per_call")
_PER_1000: Final = -3  # as a power of ten
_SHOWN: Final = Decimal("1E-12")
_REMEMBERED_MODELS: Final = 1024
#: Each star multiplies the time that a pattern can take on a hostile name.
_MOST_STARS: Final = 4


@dataclass(frozen=True, slots=True)
class Price:
    """One line of the book; rates are credits per 1,000 tokens, and per call."""

    service: str
    model: str
    since: datetime
    input: Decimal
    output: Decimal
    cached: Decimal | None
    per_call: Decimal

    @property
    def is_by_token(self) -> bool:
        return bool(self.input or self.output or self.cached)

    @property
    def specificity(self) -> int:
        return len(self.model) - self.model.count("*") - self.model.count("?")


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call costs, and how that came about."""

    pricing: Pricing
    credits: int = 0
    cost: Decimal = _ZERO
    version: str | None = None
    is_clamped: bool = False
    #: Of a reported charge: what the book says, when it says other credits.
    book_cost: Decimal | None = None


#: Of what is no AI call, by any book.
FREE: Final = Charge(Pricing.FREE)


class PriceBook:
    """A fixed list of prices under one version."""

    def __init__(self, version: str, prices: tuple[Price, ...]) -> None:
        self.version = version
        ranked = sorted(prices, key=lambda p: (p.specificity, p.since), reverse=True)
        self._lines = [(price, _pattern(price.model)) for price in ranked]
        self._matched: dict[tuple[str, str], tuple[Price, ...]] = {}

    def find(self, service: str, model: str, at: datetime) -> Price | None:
        """The price of a call to `model` that started at `at`."""
        candidates = self._matched.get((service, model))
        if candidates is None:
            candidates = self._match(service, model)
        return next((price for price in candidates if price.since <= at), None)

    def _match(self, service: str, model: str) -> tuple[Price, ...]:
        if len(self._matched) >= _REMEMBERED_MODELS:
            self._matched.clear()  # names come from upstreams: not bounded by us
        matched = tuple(
            price
            for price, pattern in self._lines
            if price.service == service and pattern.fullmatch(model)
        )
        self._matched[(service, model)] = matched
        return matched

    def charge(self, event: UsageEvent) -> Charge:
        """The charge for one event; never guesses what nobody counted."""
        if event.reported_credits is not None:
            return self._reported(event, event.reported_credits)
        if not event.is_ai:
            return FREE
        return self.rate(event.service, event.model, event.created_at, event.usage)

    def _reported(self, event: UsageEvent, credits_: Decimal) -> Charge:
        charge = _charge(Pricing.REPORTED, credits_, None)
        own = self.rate(event.service, event.model, event.created_at, event.usage)
        if own.pricing is not Pricing.PRICED or own.credits == charge.credits:
            return charge
        return replace(charge, book_cost=own.cost)

    def rate(
        self, service: str, model: str | None, at: datetime, usage: Usage
    ) -> Charge:
        """What `usage` costs by this book, whatever was charged for it."""
        price = self.find(service, model or "", at)
        if price is None or (price.is_by_token and not usage.is_counted):
            return Charge(Pricing.UNPRICED, version=self.version)
        return _charge(Pricing.PRICED, cost_of(usage, price), self.version)


NO_PRICES: Final = PriceBook("none", ())


def cost_of(usage: Usage, price: Price) -> Decimal:
    """The exact cost in credits; an uncounted kind of token costs nothing."""
    total_input = usage.input or 0
    cached = min(usage.cached or 0, total_input)
    cached_rate = price.input if price.cached is None else price.cached
    by_token = _EXACT.add(
        _EXACT.add(
            _EXACT.multiply(Decimal(total_input - cached), price.input),
            _EXACT.multiply(Decimal(cached), cached_rate),
        ),
        _EXACT.multiply(Decimal(usage.output or 0), price.output),
    )
    return _EXACT.add(by_token.scaleb(_PER_1000, _EXACT), price.per_call)


def rate_per_token(cost: Decimal, tokens: int | None) -> Decimal:
    """Mean credits per token, to twelve decimals; for information only."""
    if not tokens:
        return _ZERO
    return _EXACT.quantize(_EXACT.divide(cost, Decimal(tokens)), _SHOWN)


def parse(document: Mapping[str, Any]) -> PriceBook:
    """The book in a `cfg:usage_sink` document.

    Raises:
        BadPriceBook: naming every bad line.
    """
    problems: list[str] = []
    version, lines = document.get("version"), document.get("prices")
    if not isinstance(version, str) or not version:
        problems.append("version: a text is needed")
    if not isinstance(lines, list):
        lines = []
        problems.append("prices: a list is needed")
    prices = []
    for number, line in enumerate(lines):
        try:
            prices.append(_price(line))
        except (ValueError, InvalidOperation) as error:
            problems.append(f"prices[{number}]: {error}")
    if problems:
        raise BadPriceBook("; ".join(problems))
    return PriceBook(str(version), tuple(prices))


def _price(line: object) -> Price:
    if not isinstance(line, dict):
        raise ValueError("an object is needed")  # noqa: TRY004 - one kind of problem
    unknown = line.keys() - {"service", "model", "from", *_RATES}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    if _text(line, "model").count("*") > _MOST_STARS:
        raise ValueError(f"model: more than {_MOST_STARS} stars")
    since = date.fromisoformat(_text(line, "from"))
    cached = line.get("cached_per_1000")
    return Price(
        service=_text(line, "service"),
        model=_text(line, "model"),
        since=datetime(since.year, since.month, since.day, tzinfo=UTC),
        input=_rate(line, "input_per_1000"),
        output=_rate(line, "output_per_1000"),
        cached=None if cached is None else _rate(line, "cached_per_1000"),
        per_call=_rate(line, "per_call"),
    )


def _text(line: Mapping[str, Any], key: str) -> str:
    value = line.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: a text is needed")
    return value


def _rate(line: Mapping[str, Any], key: str) -> Decimal:
    value = line.get(key)
    if value is None:
        return _ZERO
    # Not a JSON number: a float has already lost the price.
    if not isinstance(value, str) or _RATE.fullmatch(value) is None:
        raise ValueError(f"{key}: a decimal as text is needed, such as '2.5'")
    return Decimal(value)


def _charge(pricing: Pricing, cost: Decimal, version: str | None) -> Charge:
    whole = int(cost.to_integral_value(ROUND_CEILING, _EXACT))
    return Charge(
        pricing,
        min(whole, MOST_CREDITS),
        cost,
        version,
        is_clamped=whole > MOST_CREDITS,
    )


def _pattern(glob: str) -> re.Pattern[str]:
    parts = (
        {"*": ".*", "?": "."}.get(part, re.escape(part))
        for part in re.split(r"(\*|\?)", re.sub(r"\*+", "*", glob))
    )
    return re.compile("".join(parts), re.DOTALL)
