from typing import Any

import pytest

from control.edge import Edge, network
from control.parse import ConfigRefused, from_document
from control.xds import networks


def an_edge(**fields: Any) -> Edge:
    edge: Edge = from_document(fields, Edge)
    return edge


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
    ],
)
def test_a_network_has_one_form(text: str, expected: str) -> None:
    assert str(network(text)) == expected


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("blocked_networks", ["10.0.0.1/8"], "did you mean 10.0.0.0/8"),
        ("blocked_networks", ["10.0.0.0/33"], "give a network"),
        ("blocked_networks", ["example.com"], "give a network"),
        ("blocked_networks", ["0.0.0.0/0"], "block everybody"),
        ("blocked_networks", ["::/0"], "block everybody"),
        ("blocked_networks", ["10.0.0.1"] * 1001, "at most 1000"),
        ("methods", ["GET", "TRACE"], "TRACE can't be allowed"),
        ("methods", ["CONNECT"], "CONNECT can't be allowed"),
        ("headers_timeout", "0s", "more than 0"),
        ("trusted_hops", -1, "greater than or equal to 0"),
        ("trusted_hop", 1, "did you mean trusted_hops"),
        ("logged_query_parameters", ["a,b"], "should match pattern"),
        ("logged_query_parameters", ["a%b"], "should match pattern"),
        ("logged_query_parameters", ["a"] * 17, "at most 16"),
    ],
)
def test_what_can_not_work_is_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(ConfigRefused, match=words):
        an_edge(**{field: value})


def test_without_blocked_networks_there_are_no_rules() -> None:
    assert networks.everywhere(an_edge()) == {}


def test_metrics_for_nobody_are_possible() -> None:
    edge = an_edge(metrics_networks=[])

    assert networks.metrics_only(edge)[networks.FILTER].value


@pytest.mark.parametrize(
    "name",
    [
        *("token", "access_token", "idToken", "TOKEN", "key", "api_key", "apiKey"),
        *("apikey", "X-Amz-Signature", "sig", "secret", "clientSecret", "password"),
        *("passwd", "pwd", "authorization", "auth", "code", "otp", "session_id", "jwt"),
    ],
)
def test_a_parameter_that_may_hold_a_secret_is_not_logged(name: str) -> None:
    with pytest.raises(ConfigRefused, match="may hold a secret"):
        an_edge(logged_query_parameters=[name])


@pytest.mark.parametrize(
    "name", ["page", "api-version", "keyword", "encoder", "pinned"]
)
def test_another_parameter_may_be_logged(name: str) -> None:
    assert an_edge(logged_query_parameters=[name]).logged_query_parameters == (name,)
