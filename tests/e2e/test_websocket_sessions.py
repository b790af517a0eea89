"""A socket lives as long as its token, and no longer."""

import json

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from runtime.clock import SystemClock
from tests.e2e.stack import Stack, a_user

pytestmark = pytest.mark.e2e

CLOCK = SystemClock()
CLOSED_WITHIN_S = 5.0


def open_socket(stack: Stack, token: str) -> ClientConnection:
    url = stack.gateway.replace("http", "ws") + "/api/ws/echo"
    return connect(
        url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None
    )


def echoes(socket: ClientConnection) -> bool:
    socket.send("hello")
    return socket.recv(timeout=5) == "hello"


def seconds_until_closed(socket: ClientConnection) -> float:
    started = CLOCK.monotonic()
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=30)
    return CLOCK.monotonic() - started


def short_token(stack: Stack, ttl_s: int) -> str:
    body = {"user": a_user(), "role": "user", "ttl_s": ttl_s}
    return str(stack.control("POST", "tokens", body).json()["token"])


@pytest.mark.alone
def test_the_socket_of_a_revoked_token_is_closed_and_no_other(own: Stack) -> None:
    token, other = own.token(), own.token()
    with open_socket(own, token) as revoked, open_socket(own, other) as bystander:
        assert echoes(revoked)
        assert echoes(bystander)
        assert own.command("revoke", token).returncode == 0

        assert seconds_until_closed(revoked) < CLOSED_WITHIN_S
        assert echoes(bystander)


@pytest.mark.alone
def test_all_sockets_of_a_revoked_user_are_closed(own: Stack) -> None:
    user = a_user()
    with (
        open_socket(own, own.token(user)) as first,
        open_socket(own, own.token(user)) as second,
    ):
        assert echoes(first)
        assert echoes(second)
        assert own.command("revoke", "--user", user).returncode == 0

        assert seconds_until_closed(first) < CLOSED_WITHIN_S
        assert seconds_until_closed(second) < CLOSED_WITHIN_S


@pytest.mark.alone
def test_the_socket_of_an_expired_token_is_closed(own: Stack) -> None:
    with open_socket(own, short_token(own, 3)) as socket:
        assert echoes(socket)

        assert seconds_until_closed(socket) < 3 + CLOSED_WITHIN_S


def test_a_socket_outlives_many_messages_and_is_metered(own: Stack) -> None:
    token = own.token()
    with open_socket(own, token) as socket:
        for number in range(200):
            text = json.dumps({"n": number})
            socket.send(text)
            assert socket.recv(timeout=5) == text
