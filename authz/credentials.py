"""Where a request carries its token (RFC 6750 §2.1; subprotocol for browsers).

A browser can't set headers on a WebSocket, so `Sec-WebSocket-Protocol: bearer, TOKEN`
counts too; the Authorization header wins when both are there.
"""

from runtime.values import value

_SCHEME = "bearer"
_SUBPROTOCOL_PARTS = 2


@value
class Bearer:
    """A token to be verified."""

    token: str

    def __repr__(self) -> str:
        return "Bearer(token=…)"


@value
class Missing:
    """No credential at all: a guest."""


@value
class Malformed:
    """Something that is not one bearer token."""

    reason: str


Credential = Bearer | Missing | Malformed


def find(authorization: str | None, websocket_protocol: str | None) -> Credential:
    """The request's credential; `None` = the header is absent."""
    if authorization is not None:
        return _from_header(authorization)
    if websocket_protocol is not None:
        return _from_subprotocol(websocket_protocol)
    return Missing()


def _from_header(value: str) -> Credential:
    # Envoy joins several Authorization headers with commas; a token has none.
    if "," in value:
        return Malformed("several_credentials")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != _SCHEME:
        return Malformed("not_bearer")
    if not token or token != token.strip():
        return Malformed("not_one_token")
    return Bearer(token)


def _from_subprotocol(value: str) -> Credential:
    parts = [part.strip() for part in value.split(",")]
    if parts[0] != _SCHEME:
        return Missing()
    if len(parts) != _SUBPROTOCOL_PARTS or not parts[1]:
        return Malformed("not_one_token")
    return Bearer(parts[1])
