"""The price book in force, and what happens before there is one.

The last good book is also kept in a file, so a start without Redis prices as before.
Before there ever was one, an AI call to be priced holds the loader (never the answer
to Envoy), for at most `wait_s` from the start. After that metering goes before
pricing: AI calls are written as `unpriced`, counted, and re-rated later. A book that
has come once stays in force however long Redis is away.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runtime.clock import Clock
from runtime.logs import get_logger
from usage_sink.errors import PricesPending
from usage_sink.events import UsageEvent
from usage_sink.prices import NO_PRICES, Charge, PriceBook, parse

log = get_logger(__name__)

#: In the spool's folder: the document as `control` published it.
KEPT_BOOK: Final = "prices.json"


class PricesInForce:
    """Holds the last good book; `kept` is the file that it is kept in."""

    def __init__(self, clock: Clock, wait_s: float, kept: Path | None = None) -> None:
        self._clock = clock
        self._wait_until = clock.monotonic() + wait_s
        self._kept = kept
        self._book = None if kept is None else _read(kept)

    def accept(self, document: Mapping[str, Any]) -> None:
        """Put a published book in force.

        Raises:
            BadPriceBook: it is refused as a whole; the one before stays.
        """
        self._book = parse(document)
        if self._kept is not None:
            _keep(self._kept, document)

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


def _read(file: Path) -> PriceBook | None:
    try:
        book = parse(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        log.warning("kept prices not usable", file=str(file), why=str(error))
        return None
    log.info("prices in force are the kept ones", version=book.version)
    return book


def _keep(file: Path, document: Mapping[str, Any]) -> None:
    fresh = file.with_suffix(".new")
    try:
        with fresh.open("w") as new:
            json.dump(document, new)
            new.flush()
            os.fsync(new.fileno())
        fresh.replace(file)
    except OSError as error:
        log.warning("prices not kept for the next start", why=str(error))
