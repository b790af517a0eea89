"""auth-service, asked over ASGI."""

from typing import Any

import httpx
import jwt
import pytest

from local.demo.auth import AuthDeps, create_app
from local.demo.revocations import MemoryRevocations
from local.demo.tokens import ACCESS_TTL_S, Signer
from runtime.clock import FakeClock
from runtime.contracts.redis_keys import REVOCATION_MARGIN_S
from runtime.redis import RedisUnavailable

KEY = b"a key of the demo, thirty-two bytes or more"


class Desk:
    """auth-service with everything it stands on in reach of the test."""

    def __init__(self, signer: Signer | None = None) -> None:
        self.clock = FakeClock()
        self.revocations = MemoryRevocations()
        app = create_app(AuthDeps(signer or Signer(KEY), self.revocations, self.clock))
        self._transport = httpx.ASGITransport(app)

    async def post(
        self, path: str, body: object = None, token: str | None = None
    ) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://auth"
        ) as client:
            return await client.post(f"/api/auth/{path}", json=body, headers=headers)

    async def login(self, username: str = "demo-user") -> dict[str, Any]:
        body = {"username": username, "password": "demo"}
        answer = await self.post("login", body)
        assert answer.status_code == 200
        pair: dict[str, Any] = answer.json()
        return pair


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, KEY, algorithms=["HS256"], options={"verify_exp": False}
    )
    return claims


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(
    ("username", "role"),
    [("demo-user", "user"), ("demo-manager", "manager"), ("demo-admin", "admin")],
)
async def test_a_login_gives_the_token_the_gateway_asks_for(
    desk: Desk, username: str, role: str
) -> None:
    pair = await desk.login(username)
    claims = claims_of(pair["accessToken"])
    assert set(claims) == {"sub", "role", "iat", "exp", "jti"}
    assert (claims["sub"], claims["role"]) == (username, role)
    assert claims["exp"] - claims["iat"] == pair["expiresIn"] == ACCESS_TTL_S
    assert pair["tokenType"] == "Bearer"
    assert pair["user"] == {"id": username, "role": role}


async def test_a_refresh_token_has_no_role_so_the_gateway_refuses_it(
    desk: Desk,
) -> None:
    claims = claims_of((await desk.login())["refreshToken"])
    assert "role" not in claims
    assert claims["typ"] == "refresh"


async def test_issuer_and_audience_are_signed_when_the_gateway_asks_for_them() -> None:
    desk = Desk(Signer(KEY, issuer="demo", audience="hubgate"))
    pair = await desk.login()
    claims = jwt.decode(
        pair["accessToken"],
        KEY,
        algorithms=["HS256"],
        issuer="demo",
        audience="hubgate",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["sub"] == "demo-user"
    answer = await desk.post("refresh", {"refreshToken": pair["refreshToken"]})
    assert answer.status_code == 200


async def test_tokens_are_not_for_caches(desk: Desk) -> None:
    answer = await desk.post("login", {"username": "demo-user", "password": "demo"})
    assert answer.headers["cache-control"] == "no-store"


async def test_an_unknown_name_and_a_wrong_password_look_the_same(desk: Desk) -> None:
    unknown = await desk.post("login", {"username": "nobody", "password": "demo"})
    wrong = await desk.post("login", {"username": "demo-user", "password": "demos"})
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.content == wrong.content
    assert wrong.json()["code"] == "INVALID_CREDENTIALS"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(None, id="no body"),
        pytest.param({}, id="nothing in it"),
        pytest.param({"username": "a", "password": ["s3cret"]}, id="wrong type"),
        pytest.param({"username": "a", "password": "s3cret" * 99}, id="too long"),
    ],
)
async def test_a_malformed_login_is_422_without_an_echo_of_the_password(
    desk: Desk, body: object
) -> None:
    answer = await desk.post("login", body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"code", "message"}
    assert answer.json()["code"] == "VALIDATION_FAILED"
    assert "s3cret" not in answer.text


async def test_a_refresh_gives_a_new_pair_of_the_same_user(desk: Desk) -> None:
    first = await desk.login("demo-manager")
    answer = await desk.post("refresh", {"refreshToken": first["refreshToken"]})
    second = answer.json()
    assert second["user"] == {"id": "demo-manager", "role": "manager"}
    assert second["refreshToken"] != first["refreshToken"]
    assert claims_of(second["accessToken"])["role"] == "manager"


async def test_a_refresh_token_works_once(desk: Desk) -> None:
    token = (await desk.login())["refreshToken"]
    assert (await desk.post("refresh", {"refreshToken": token})).status_code == 200
    again = await desk.post("refresh", {"refreshToken": token})
    assert again.status_code == 401
    assert again.json()["code"] == "TOKEN_REVOKED"
    assert claims_of(token)["jti"] in desk.revocations.revoked


async def test_an_access_token_is_no_refresh_token(desk: Desk) -> None:
    token = (await desk.login())["accessToken"]
    answer = await desk.post("refresh", {"refreshToken": token})
    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_INVALID"


def signed(**claims: object) -> str:
    whole = {"sub": "demo-user", "typ": "refresh", "jti": "j", "exp": 2_000_000_000}
    return jwt.encode({**whole, **claims}, KEY, algorithm="HS256")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("rubbish", id="not a token"),
        pytest.param("a" * 4096, id="long rubbish"),
        pytest.param(signed(sub="stranger"), id="an account that is gone"),
        pytest.param(signed(exp=1), id="expired"),
        pytest.param(signed(typ="access"), id="another typ"),
        pytest.param(
            jwt.encode(claims_of(signed()), KEY[::-1], algorithm="HS256"),
            id="another key",
        ),
        pytest.param(
            jwt.encode(claims_of(signed()), "", algorithm="none"), id="alg none"
        ),
    ],
)
async def test_whatever_is_wrong_with_a_refresh_token_it_is_401(
    desk: Desk, token: str
) -> None:
    answer = await desk.post("refresh", {"refreshToken": token})
    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_INVALID"


async def test_a_refresh_token_expires_by_the_services_clock(desk: Desk) -> None:
    token = (await desk.login())["refreshToken"]
    desk.clock.advance(7 * 24 * 3600)
    answer = await desk.post("refresh", {"refreshToken": token})
    assert answer.status_code == 401


async def test_a_logout_blacklists_the_token_for_as_long_as_it_is_of_use(
    desk: Desk,
) -> None:
    token = (await desk.login())["accessToken"]
    desk.clock.advance(100)
    answer = await desk.post("logout", token=token)
    assert answer.status_code == 204
    assert desk.revocations.revoked == {
        claims_of(token)["jti"]: ACCESS_TTL_S - 100 + REVOCATION_MARGIN_S
    }


async def test_a_second_logout_is_no_error(desk: Desk) -> None:
    token = (await desk.login())["accessToken"]
    for _ in range(2):
        assert (await desk.post("logout", token=token)).status_code == 204


async def test_a_logout_without_a_token_says_what_to_send(desk: Desk) -> None:
    answer = await desk.post("logout")
    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_MISSING"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_refresh_token_does_not_log_out(desk: Desk) -> None:
    token = (await desk.login())["refreshToken"]
    answer = await desk.post("logout", token=token)
    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_INVALID"
    assert desk.revocations.revoked == {}


async def test_a_token_longer_than_any_of_ours_is_not_even_read(desk: Desk) -> None:
    answer = await desk.post("logout", token="a" * 5000)
    assert answer.status_code == 401
    assert answer.json()["code"] == "TOKEN_INVALID"


class _Down:
    async def revoke(self, jti: str, ttl_s: int) -> bool:
        raise RedisUnavailable


async def test_a_logout_that_could_not_be_written_is_not_called_done() -> None:
    clock = FakeClock()
    desk = Desk()
    token = (await desk.login())["accessToken"]
    transport = httpx.ASGITransport(create_app(AuthDeps(Signer(KEY), _Down(), clock)))
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        answer = await client.post(
            "/api/auth/logout", headers={"authorization": f"Bearer {token}"}
        )
    assert answer.status_code == 503
    assert answer.json()["code"] == "AUTH_UNAVAILABLE"


async def test_an_unknown_path_is_404_in_json(desk: Desk) -> None:
    answer = await desk.post("nothing")
    assert answer.status_code == 404
    assert answer.json() == {"code": "NOT_FOUND", "message": "Not Found"}
