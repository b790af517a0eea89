"""The rules that control hands to the sidecars, out of the document. Pure."""

import hashlib
import json
from typing import Any

from control.model import PER_SECONDS, GatewayConfig, Price, RateLimit

Document = dict[str, Any]


def ratelimit_document(config: GatewayConfig) -> Document:
    """`cfg:ratelimit`: null is unlimited; a route listed has a limit of its own."""
    roles = config.limits.roles.items()
    return {
        "roles": {
            name: _limit(one) if isinstance(one, RateLimit) else None
            for name, one in roles
        },
        "routes": {
            route.id: _limit(route.rate_limit)
            for route in config.routes
            if isinstance(route.rate_limit, RateLimit)
        },
    }


def prices_document(config: GatewayConfig) -> Document:
    """`cfg:usage_sink`: decimals as text; without a label the content names itself."""
    prices = [_price(one) for one in config.prices]
    digest = hashlib.sha256(json.dumps(prices, sort_keys=True).encode()).hexdigest()
    return {"version": config.prices_version or digest[:12], "prices": prices}


def _limit(limit: RateLimit) -> Document:
    return {"requests": limit.requests, "per_s": PER_SECONDS[limit.per]}


def _price(price: Price) -> Document:
    rates = {
        name: format(value, "f")
        for name in ("input_per_1000", "output_per_1000", "cached_per_1000", "per_call")
        if (value := getattr(price, name)) is not None
    }
    return {
        "service": price.service,
        "model": price.model,
        "from": price.valid_from.isoformat(),
        **rates,
    }
