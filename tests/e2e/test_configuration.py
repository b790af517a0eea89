"""A change is live when it is answered, and a bad one changes nothing."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.clock import SystemClock
from tests.e2e.stack import Stack, eventually, limits_of

pytestmark = pytest.mark.e2e


def a_route(**changes: Any) -> dict[str, Any]:
    name = uuid.uuid4().hex[:8]
    return {
        "id": f"r-{name}",
        "prefix": f"/api/x-{name}",
        "prefix_rewrite": "/api/users/me",
        "service": "core-service",
        **changes,
    }


@pytest.mark.alone
def test_a_new_route_serves_as_soon_as_it_is_answered(own: Stack) -> None:
    token, route = own.token(), a_route()
    before = own.get(route["prefix"], token)
    started = SystemClock().monotonic()
    put = own.control("PUT", f"routes/{route['id']}", route)
    took = SystemClock().monotonic() - started
    after = own.get(route["prefix"], token)
    gone = own.control("DELETE", f"routes/{route['id']}")
    finally_ = own.get(route["prefix"], token)

    assert before.status_code == 404
    assert put.status_code == 200, put.text
    assert put.json()["acknowledgedBy"]
    assert took < 2
    assert after.status_code == 200
    assert gone.status_code == 200
    assert finally_.status_code == 404


@pytest.mark.parametrize(
    ("regex", "reason"),
    [("/a(", "missing ): /a("), ("/a(?=b)", "invalid perl operator: (?=")],
    ids=["unclosed", "lookahead"],
)
def test_a_route_that_envoy_refuses_gets_its_reason_and_changes_nothing(
    stack: Stack, regex: str, reason: str
) -> None:
    route = a_route(prefix=None, prefix_rewrite=None, regex=regex)
    put = stack.control("PUT", f"routes/{route['id']}", route)
    listed = stack.control("GET", f"routes/{route['id']}")

    assert put.status_code == 422
    assert put.json()["code"] == "CONFIG_REJECTED"
    assert reason in put.json()["message"]
    assert listed.status_code == 404
    assert stack.get("/api/users/me", stack.token()).status_code == 200


def test_a_bad_field_is_named_with_what_was_given(stack: Stack) -> None:
    put = stack.control("PUT", "routes/bad", a_route(id="bad", auth="maybe"))
    (error,) = put.json()["errors"]

    assert put.status_code == 422
    assert "auth" in error["field"]
    assert error["given"] == "maybe"


def test_a_routes_own_limit_counts_apart_from_the_roles(stack: Stack) -> None:
    token, another = stack.token(), stack.token()
    route = a_route(rate_limit={"requests": 2, "per": "minute"})
    put = stack.control("PUT", f"routes/{route['id']}", route)
    eventually(
        lambda: limits_of(lambda: stack.get(route["prefix"], another)) == {"2"}, 10.0
    )
    answers = [stack.get(route["prefix"], token) for _ in range(3)]
    other = stack.get("/api/users/me", token)
    stack.control("DELETE", f"routes/{route['id']}")

    assert put.status_code == 200, put.text
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-limit"] == "2"
    assert other.headers["ratelimit-remaining"] == "59"


def test_a_route_may_allow_some_methods_only(stack: Stack) -> None:
    token, route = stack.token(), a_route(methods=["GET"])
    stack.control("PUT", f"routes/{route['id']}", route)
    get = stack.get(route["prefix"], token)
    post = stack.request("POST", route["prefix"], token)
    stack.control("DELETE", f"routes/{route['id']}")

    assert (get.status_code, post.status_code) == (200, 405)
    assert post.json()["code"] == "METHOD_NOT_ALLOWED"


def test_going_back_to_a_revision_brings_its_routes_back(stack: Stack) -> None:
    token, route = stack.token(), a_route()
    revision = stack.control("PUT", f"routes/{route['id']}", route).json()["revision"]
    stack.control("DELETE", f"routes/{route['id']}")
    gone = stack.get(route["prefix"], token)
    told = stack.command("config", "rollback", str(revision))
    back = stack.get(route["prefix"], token)
    stack.control("DELETE", f"routes/{route['id']}")

    assert told.returncode == 0, told.stderr
    assert (gone.status_code, back.status_code) == (404, 200)


def test_a_file_is_compared_and_then_put_in_force_as_a_whole(
    stack: Stack, tmp_path: Path
) -> None:
    token, route, file = stack.token(), a_route(), tmp_path / "wanted.yaml"
    before = stack.control("GET", "config").json()["revision"]
    document = yaml.safe_load(stack.command("config", "show").stdout)
    prices = [{"service": "x", "model": "y", "from": "2026-01-01", "per_call": "2"}]
    wanted = {**document, "routes": [*document["routes"], route], "prices": prices}
    file.write_text(yaml.safe_dump(wanted))
    compared = stack.command("config", "diff", str(file))
    still = stack.get(route["prefix"], token)
    applied = stack.command("config", "apply", str(file))
    served = stack.get(route["prefix"], token)
    left = stack.command("config", "diff", str(file))
    stack.command("config", "rollback", str(before))

    assert (compared.returncode, applied.returncode) == (0, 0), applied.stderr
    told = compared.stdout.splitlines()
    assert any(line.startswith(f"+ routes.{route['id']}: ") for line in told)
    assert any(line.startswith("- prices.openai gpt-4o* 2026-01-01: ") for line in told)
    assert (still.status_code, served.status_code) == (404, 200)
    assert left.stdout == ""
    assert stack.get(route["prefix"], token).status_code == 404


@pytest.mark.parametrize("token", [None, "wrong"], ids=["none", "wrong"])
def test_the_control_api_needs_the_admin_token(stack: Stack, token: str | None) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    url = f"{stack.ready['control']}/control/v1/routes"
    response = stack.http.get(url, headers=headers)

    assert response.status_code == 401
    assert "code" in response.json()


def test_a_users_token_is_no_admin_token(stack: Stack) -> None:
    url = f"{stack.ready['control']}/control/v1/routes"
    token = stack.token(role="admin")
    response = stack.http.get(url, headers={"authorization": f"Bearer {token}"})

    assert response.status_code == 401
