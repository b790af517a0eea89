"""An alert of a running gateway, from calls through the ledger to a webhook."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

import pytest

from tests.e2e.stack import Stack, a_user, eventually

pytestmark = pytest.mark.e2e

#: A new rule is evaluated within a second, and a failed delivery repeated after one.
DEADLINE_S = 40.0


@contextmanager
def a_receiver() -> Iterator[tuple[str, SimpleQueue[dict[str, Any]]]]:
    """A webhook that fails the first time."""
    got: SimpleQueue[dict[str, Any]] = SimpleQueue()
    statuses = iter([503])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = next(statuses, 200)
            if status == 200:
                got.put(json.loads(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        server.server_close()


def calls_of(stack: Stack, token: str) -> int:
    """Of the user, in the ledger; asked of control, so that it is no call itself."""
    headers = {"authorization": f"Bearer {token}"}
    answer = stack.http.get(f"{stack.ready['control']}/api/usage/me", headers=headers)
    return int(answer.json()["used"]["requests"])


def test_a_spike_of_calls_is_told_and_so_is_its_end(stack: Stack) -> None:
    user = a_user()
    token = stack.token(user)
    for _ in range(5):
        assert stack.get("/api/users/me", token).status_code == 200
    eventually(lambda: calls_of(stack, token) == 5, 15.0)
    rule = {"metric": "volume", "threshold": 4, "where": {"userId": user}}

    with a_receiver() as (url, got):
        put = stack.control("PUT", "alerts/spike", {**rule, "webhook": url})
        assert put.status_code == 201, put.text
        try:
            firing = got.get(timeout=DEADLINE_S)
        finally:
            deleted = stack.control("DELETE", "alerts/spike")
        over = got.get(timeout=DEADLINE_S)

    assert deleted.status_code == 200
    assert (firing["status"], over["status"]) == ("firing", "resolved")
    assert firing["commonLabels"]["user_id"] == user
    assert firing["alerts"][0]["annotations"]["summary"].startswith("volume is 5,")
    assert over["alerts"][0]["fingerprint"] == firing["alerts"][0]["fingerprint"]
