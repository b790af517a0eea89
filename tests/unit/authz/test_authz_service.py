"""On the wire, whatever happens is an answer that Envoy understands."""

import json

from authz.authorizer import Authorizer, OnRedisDown
from authz.service import AuthzService
from runtime.clock import FakeClock
from runtime.identity.blacklist import MemoryBlacklist
from runtime.identity.tokens import Claims
from runtime.metrics import Metrics
from tests.builders import NOW, a_check_request, a_token, a_verifier


class BrokenBlacklist:
    """Fails in a way that nobody foresaw."""

    async def is_revoked(self, claims: Claims) -> bool:
        raise RecursionError


def a_service(
    blacklist: MemoryBlacklist | BrokenBlacklist | None = None,
) -> tuple[AuthzService, Metrics]:
    metrics = Metrics()
    authorizer = Authorizer(
        verifier=a_verifier(FakeClock(NOW)),
        blacklist=blacklist or MemoryBlacklist(),
        on_redis_down=OnRedisDown.DENY,
        metrics=metrics,
    )
    return AuthzService(authorizer, metrics), metrics


async def test_an_allowed_request_carries_the_identity_upstream() -> None:
    service, metrics = a_service()
    request = a_check_request({"authorization": f"Bearer {a_token()}"})

    response = await service.check(request)

    assert response.status.code == 0
    options = response.ok_response.headers
    assert {(h.header.key, h.header.value) for h in options} == {
        ("x-user-id", "u-1"),
        ("x-user-role", "user"),
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

    response = await service.check(a_check_request())

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

    response = await service.check(a_check_request(auth="maybe"))

    assert response.denied_response.status.code == 403


async def test_an_unforeseen_failure_is_a_denial_and_not_an_rpc_error() -> None:
    service, metrics = a_service(BrokenBlacklist())
    request = a_check_request({"authorization": f"Bearer {a_token()}"})

    response = await service.check(request)

    assert response.denied_response.status.code == 503
    assert json.loads(response.denied_response.body)["code"] == "AUTH_UNAVAILABLE"
    counted = metrics.value(
        "hubgate_authz_decisions_total", verdict="deny", reason="internal_error"
    )
    assert counted == 1


async def test_a_guest_has_a_role_and_no_user_id() -> None:
    service, _ = a_service()

    response = await service.check(a_check_request(auth="none"))

    headers = {h.header.key: h.header.value for h in response.ok_response.headers}
    assert headers == {"x-user-role": "guest"}
    assert "user_id" not in response.dynamic_metadata
