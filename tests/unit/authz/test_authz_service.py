"""On the wire, whatever happens is an answer that Envoy understands."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as pb

from authz.audit import Attempt, Audit, AuditScope
from authz.authorizer import Authorizer, OnRedisDown
from authz.service import AuthzService
from runtime.clock import FakeClock
from runtime.identity.blacklist import MemoryBlacklist
from runtime.identity.tokens import Claims
from runtime.metrics import Metrics
from tests.builders import NOW, a_check_request, a_token, a_verifier

#: Of the request that the builder makes.
TRACEPARENT = "00-00000000000040008000000000000001-8000000000000001-00"


class BrokenBlacklist:
    """Fails in a way that nobody foresaw."""

    async def is_revoked(self, claims: Claims) -> bool:
        raise RecursionError


def a_service(
    blacklist: MemoryBlacklist | BrokenBlacklist | None = None,
    lines: list[str] | None = None,
) -> tuple[AuthzService, Metrics]:
    metrics, lines = Metrics(), [] if lines is None else lines
    authorizer = Authorizer(
        verifier=a_verifier(FakeClock(NOW)),
        blacklist=blacklist or MemoryBlacklist(),
        on_redis_down=OnRedisDown.DENY,
        metrics=metrics,
    )
    audit = Audit({"service": "authz", "node": "n1"}, FakeClock(NOW), lines.append)
    return AuthzService(authorizer, metrics, audit), metrics


async def answer(service: AuthzService, request: Any) -> Any:
    """As Envoy reads it."""
    return pb.CheckResponse.FromString(await service.check(request))


async def test_an_allowed_request_carries_the_identity_upstream() -> None:
    service, metrics = a_service()
    request = a_check_request({"authorization": f"Bearer {a_token()}"})

    response = await answer(service, request)

    assert response.status.code == 0
    options = response.ok_response.headers
    assert {(h.header.key, h.header.value) for h in options} == {
        ("x-user-id", "u-1"),
        ("x-user-role", "user"),
        ("traceparent", TRACEPARENT),
    }
    # 2 = OVERWRITE_IF_EXISTS_OR_ADD: a client's copy can't stand beside it
    assert {h.append_action for h in options} == {2}
    assert response.dynamic_metadata["user_id"] == "u-1"
    assert response.dynamic_metadata["role"] == "user"
    counted = metrics.value(
        "hubgate_authz_decisions_total", verdict="allow", reason="token"
    )
    assert counted == 1


async def test_a_denied_request_gets_json_and_a_challenge() -> None:
    service, _ = a_service()

    response = await answer(service, a_check_request())

    denied = response.denied_response
    headers = {h.header.key: h.header.value for h in denied.headers}
    assert response.status.code != 0
    assert denied.status.code == 401
    assert headers == {
        "content-type": "application/json",
        "www-authenticate": 'Bearer realm="hubgate"',
    }
    assert json.loads(denied.body) == {
        "code": "TOKEN_MISSING",
        "message": "Authentication is required: send a bearer token",
        "requestId": "00000000-0000-4000-8000-000000000001",
    }
    assert response.dynamic_metadata["reason"] == "token_missing"


async def test_a_request_without_a_policy_is_denied() -> None:
    service, _ = a_service()

    response = await answer(service, a_check_request(auth="maybe"))

    assert response.denied_response.status.code == 403


async def test_an_unforeseen_failure_is_a_denial_and_not_an_rpc_error() -> None:
    service, metrics = a_service(BrokenBlacklist())
    request = a_check_request({"authorization": f"Bearer {a_token()}"})

    response = await answer(service, request)

    assert response.denied_response.status.code == 503
    assert json.loads(response.denied_response.body)["code"] == "AUTH_UNAVAILABLE"
    counted = metrics.value(
        "hubgate_authz_decisions_total", verdict="deny", reason="internal_error"
    )
    assert counted == 1


async def test_a_guest_has_a_role_and_no_user_id() -> None:
    service, _ = a_service()

    response = await answer(service, a_check_request(auth="none"))

    headers = {h.header.key: h.header.value for h in response.ok_response.headers}
    assert headers == {"x-user-role": "guest", "traceparent": TRACEPARENT}
    assert "user_id" not in response.dynamic_metadata


async def test_every_attempt_is_one_line_without_token_or_query() -> None:
    lines: list[str] = []
    service, _ = a_service(lines=lines)
    good, expired = a_token(), a_token(exp=NOW - 60)
    for token in (good, expired, "forged"):
        request = a_check_request({"authorization": f"Bearer {token}"})
        http = request.attributes.request.http
        http.method, http.path = "POST", "/api/users/\u2028me?secret=1"
        request.attributes.source.address.socket_address.address = "192.0.2.7"
        await service.check(request)
    await asyncio.sleep(0)
    (text,) = lines
    entries = [json.loads(line) for line in text.splitlines()]

    assert entries[1] == {
        "service": "authz",
        "node": "n1",
        "time": "2023-11-14T22:13:20Z",
        "level": "info",
        "logger": "authz.audit",
        "event": "decision",
        "verdict": "deny",
        "reason": "path_characters",
        "user": None,
        "role": "guest",
        "token_id": None,
        "route": "users",
        "method": "POST",
        "path": "/api/users/\u2028me",
        "address": "192.0.2.7",
        "request_id": "00000000-0000-4000-8000-000000000001",
    }
    assert "secret" not in text
    assert "forged" not in text
    assert good not in text


@pytest.mark.parametrize(
    ("token", "verdict", "reason", "user"),
    [
        (a_token(), "allow", "token", "u-1"),
        (a_token(exp=NOW - 60), "deny", "expired", "u-1"),
        (a_token(role="\n"), "deny", "role_not_visible", None),
    ],
    ids=["genuine", "expired", "unusable"],
)
async def test_the_audit_names_whoever_is_known(
    token: str, verdict: str, reason: str, user: str | None
) -> None:
    lines: list[str] = []
    service, _ = a_service(lines=lines)
    headers = {"authorization": f"Bearer {token}", "x-client-address": "2001:db8::1"}
    await service.check(a_check_request(headers))
    await asyncio.sleep(0)
    entry = json.loads(lines[0])

    assert (entry["verdict"], entry["reason"]) == (verdict, reason)
    assert entry["user"] == user
    assert entry["token_id"] == ("t-1" if user else None)
    assert entry["address"] == "2001:db8::1"


async def test_only_denials_are_written_when_so_set() -> None:
    lines: list[str] = []
    audit = Audit({}, FakeClock(NOW), lines.append, AuditScope.DENIED)
    attempt = Attempt(
        verdict="allow",
        reason="token",
        user="u-1",
        role="user",
        token_id=None,
        route="users",
        method="GET",
        path="/",
        address="::1",
        request_id=None,
    )
    audit.record(attempt)
    audit.record(replace(attempt, verdict="deny"))
    audit.flush()

    assert [json.loads(line)["verdict"] for line in lines] == ["deny"]
