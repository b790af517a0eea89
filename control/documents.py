"""The rules that control hands to the sidecars, out of the document. Pure."""

import hashlib
import json
from typing import Any

from control.limits import PER_SECONDS, RateLimit, role_rules, route_rules
from control.model import GatewayConfig, Price

Document = dict[str, Any]


def ratelimit_document(config: GatewayConfig) -> Document:
    """`cfg:ratelimit`: null is unlimited; a route left out has its role's limits."""
    roles = config.limits.roles.items()
    return {
        "roles": {
            name: [_limit(rule) for rule in role_rules(one)] or None
            for name, one in roles
        },
        "routes": {
            route.id: {
                "cost": route.cost,
                "rules": [
                    _limit(one) if isinstance(one, RateLimit) else one
                    for one in route_rules(route.rate_limit)
                ],
            }
            for route in config.routes
            if route.rate_limit not in ("role", "none") or route.cost > 1
        },
    }


def prices_document(config: GatewayConfig) -> Document:
    """`cfg:usage_sink`: decimals as text; without a label the content names itself."""
    prices = [_price(one) for one in config.prices]
    digest = hashlib.sha256(json.dumps(prices, sort_keys=True).encode()).hexdigest()
    return {"version": config.prices_version or digest[:12], "prices": prices}


def _limit(limit: RateLimit) -> Document:
    said: Document = limit.model_dump(mode="json", exclude={"per"})
    return {**said, "per_s": PER_SECONDS[limit.per]}


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
