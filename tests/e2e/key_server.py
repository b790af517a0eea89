"""A key server of an identity provider: publishes what it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from runtime.clock import SystemClock

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


def a_token(kid: str, says: str | None = None) -> str:
    """Signed with the key `kid`; `says` is the kid in its header."""
    now = int(SystemClock().now())
    claims = {"sub": f"u-{kid}", "role": "admin", "exp": now + 600, "jti": f"j-{kid}"}
    private: Any = {"rsa": RSA, "ec": EC, "ed": ED}[kid]
    algorithm = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}[kid]
    return jwt.encode(claims, private, algorithm, headers={"kid": says or kid})
