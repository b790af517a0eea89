"""What one document says otherwise than another."""

from typing import Any

import pytest

from control.differences import Difference, differences
from control.model import GatewayConfig
from control.parse import from_document
from tests.builders_control import a_config

ROUTE: dict[str, Any] = {"id": "a", "path": "/a"}
PRICE: dict[str, Any] = {"service": "s", "model": "m*", "from": "2026-01-01"}


def priced(*prices: dict[str, Any]) -> GatewayConfig:
    config: GatewayConfig = from_document({"version": 1, "prices": prices})
    return config


def test_a_document_says_nothing_else_than_itself() -> None:
    assert differences(a_config(ROUTE), a_config(ROUTE)) == []


def test_a_default_that_is_written_out_is_no_difference() -> None:
    assert differences(a_config(ROUTE), a_config({**ROUTE, "timeout": "15s"})) == []


def test_a_field_of_a_route_is_named_by_the_routes_id() -> None:
    other = {"id": "0", "path": "/0"}
    found = differences(a_config(ROUTE), a_config(other, {**ROUTE, "timeout": "5s"}))

    assert found[0] == Difference("routes.a.timeout", "15s", "5s")
    assert [one.field for one in found] == ["routes.a.timeout", "routes.0"]


def test_a_part_that_comes_or_goes_is_told_as_a_whole() -> None:
    (came,) = differences(a_config(), a_config(ROUTE))
    (went,) = differences(a_config(ROUTE), a_config())

    assert set(came.told()) == {"field", "after"}
    assert set(went.told()) == {"field", "before"}
    assert came.told()["after"]["path"] == "/a"
    assert came.after == went.before


def test_a_null_is_a_value() -> None:
    (found,) = differences(a_config(ROUTE), a_config({**ROUTE, "roles": ["admin"]}))

    assert found.told() == {
        "field": "routes.a.roles",
        "before": None,
        "after": ["admin"],
    }


def test_a_price_is_named_by_what_it_is_of() -> None:
    (found,) = differences(priced(PRICE), priced({**PRICE, "per_call": "2"}))

    assert found.field == "prices.s m* 2026-01-01.per_call"


def test_prices_of_the_same_day_are_compared_as_a_list() -> None:
    (found,) = differences(priced(PRICE), priced(PRICE, PRICE))

    assert found.field == "prices"


@pytest.mark.parametrize(
    ("kind", "expected"), [("regex", ["order of regex routes"]), ("path", [])]
)
def test_the_order_of_routes_is_told_where_it_decides(
    kind: str, expected: list[str]
) -> None:
    first, second = {"id": "a", kind: "/a"}, {"id": "b", kind: "/b"}
    found = differences(a_config(first, second), a_config(second, first))

    assert [one.field for one in found] == expected


def test_another_expression_between_two_is_no_new_order() -> None:
    first, second, third = ({"id": one, "regex": f"/{one}"} for one in "abc")
    found = differences(a_config(first, second), a_config(first, third, second))

    assert [one.field for one in found] == ["routes.c"]
