"""What one document says otherwise than another. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from control.model import GatewayConfig

#: Of a field that one of the two does not have; null is a value.
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field; routes are named by their id, prices by what they are of."""

    field: str
    before: Any
    after: Any

    def told(self) -> dict[str, Any]:
        """As JSON; `before` or `after` is left out where there was or is nothing."""
        said = {"field": self.field, "before": self.before, "after": self.after}
        return {name: one for name, one in said.items() if one is not _ABSENT}


def differences(before: GatewayConfig, after: GatewayConfig) -> list[Difference]:
    """Empty when both mean the same: a default that is written out is none."""
    return [
        *_compared("", _named(before), _named(after)),
        *_reordered(before, after),
    ]


def _named(config: GatewayConfig) -> dict[str, Any]:
    """The document with its lists of parts by name."""
    document = config.model_dump(mode="json", by_alias=True)
    routes, prices = document["routes"], document["prices"]
    of = [f"{one['service']} {one['model']} {one['from']}" for one in prices]
    if len(set(of)) == len(of):
        document["prices"] = dict(zip(of, prices, strict=True))
    document["routes"] = {one["id"]: one for one in routes}
    return document


def _compared(field: str, before: object, after: object) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _compared(
                f"{field}.{name}" if field else name,
                before.get(name, _ABSENT),
                after.get(name, _ABSENT),
            )
    elif before != after:
        yield Difference(field, before, after)


def _reordered(before: GatewayConfig, after: GatewayConfig) -> Iterator[Difference]:
    """Expressions are tried in the order of the document, all others are not."""
    old, new = _expressions(before), _expressions(after)
    old, new = [one for one in old if one in new], [one for one in new if one in old]
    if old != new:
        yield Difference("order of regex routes", old, new)


def _expressions(config: GatewayConfig) -> list[str]:
    return [one.id for one in config.routes if one.regex is not None]
