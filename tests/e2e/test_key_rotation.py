"""A new signing key is accepted within two seconds; the old one never fails."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from runtime.clock import SystemClock
from tests.e2e.stack import Stack, eventually, running_stack

pytestmark = pytest.mark.e2e

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
JWKS: dict[str, dict[str, Any]] = {
    "rsa": {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa"},
    "ec": {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec"},
    "ed": {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), "kid": "ed"},
}


@dataclass
class KeyServer:
    """Publishes the keys named in `kids`, and counts who asks."""

    kids: list[str]
    port: int = 0
    fetches: list[str] = field(default_factory=list)


@contextmanager
def serving(kids: list[str]) -> Iterator[KeyServer]:
    state = KeyServer(kids)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.fetches.append(self.path)
            body = json.dumps({"keys": [JWKS[kid] for kid in state.kids]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyServer]:
    with serving(["rsa"]) as one:
        yield one


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, keys: KeyServer) -> Iterator[Stack]:
    env = {"HUBGATE_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks"}
    folder: Path = tmp_path_factory.mktemp("rotation")
    with running_stack(folder, env=env) as one:
        yield one


def a_token(kid: str, says: str | None = None) -> str:
    """Signed with the key `kid`; `says` is the kid in its header."""
    now = int(SystemClock().now())
    claims = {"sub": f"u-{kid}", "role": "admin", "exp": now + 600, "jti": f"j-{kid}"}
    private: Any = {"rsa": RSA, "ec": EC, "ed": ED}[kid]
    algorithm = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}[kid]
    return jwt.encode(claims, private, algorithm, headers={"kid": says or kid})


def status(stack: Stack, token: str) -> int:
    return stack.get("/api/users/me", token).status_code


def test_a_new_key_is_accepted_while_the_old_one_never_fails(
    own: Stack, keys: KeyServer
) -> None:
    old, new = a_token("rsa"), a_token("ec")
    assert status(own, old) == 200
    failures: list[int] = []
    stop = threading.Event()

    def use_the_old_key() -> None:
        while not stop.is_set():
            if (code := status(own, old)) != 200:
                failures.append(code)

    traffic = threading.Thread(target=use_the_old_key)
    traffic.start()
    try:
        keys.kids = ["rsa", "ec"]
        accepted = eventually(lambda: status(own, new) == 200, 2.0)
    finally:
        stop.set()
        traffic.join()

    assert accepted
    assert failures == []


def test_a_flood_of_unknown_kids_is_at_most_two_fetches_a_process(
    own: Stack, keys: KeyServer
) -> None:
    before = len(keys.fetches)
    codes = {status(own, a_token("rsa", f"random-{n}")) for n in range(100)}
    fetched = len(keys.fetches) - before
    processes = len(own.pids()["authz"])

    assert codes == {401}
    # A background refresh may fall into it.
    assert fetched <= 2 * processes + 1
