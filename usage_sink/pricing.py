"""The price book in force, and what happens before there is one.

Choice: until a first book has come, a batch that holds an AI call to be priced is
not taken (UNAVAILABLE: Envoy keeps it and sends it again), for at most `wait_s`
from the start. After that metering goes before pricing: AI calls are written as
`unpriced`, counted, and re-rated later. Batches without AI calls never wait, and a
book that has come once stays in force however long Redis is away.
"""

from collections.abc import Mapping
from typing import Any

from runtime.clock import Clock
from usage_sink.errors import PricesPending
from usage_sink.events import UsageEvent
from usage_sink.prices import NO_PRICES, Charge, PriceBook, parse


class PricesInForce:
    """Holds the last good book."""

    def __init__(self, clock: Clock, wait_s: float) -> None:
        self._clock = clock
        self._wait_until = clock.monotonic() + wait_s
        self._book: PriceBook | None = None

    def accept(self, document: Mapping[str, Any]) -> None:
        """Put a published book in force.

        Raises:
            BadPriceBook: it is refused as a whole; the one before stays.
        """
        self._book = parse(document)

    def charge(self, event: UsageEvent) -> Charge:
        """What `event` costs now.

        Raises:
            PricesPending: it needs a price, and the first book is still awaited.
        """
        if self._book is not None:
            return self._book.charge(event)
        needs_price = event.is_ai and event.reported_credits is None
        if needs_price and self._clock.monotonic() < self._wait_until:
            raise PricesPending
        return NO_PRICES.charge(event)
