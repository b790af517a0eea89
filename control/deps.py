"""What the control API is made of, and how a request's body is read."""

import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from control.access import Access
from control.changes import Changes
from control.errors import ApiError, invalid
from control.following import Registry
from control.parse import Problem
from control.store import Revocations, UsageQueries
from control.tokens import TokenIssuer
from runtime.clock import Clock
from runtime.contracts import ErrorCode
from runtime.health import Health
from runtime.metrics import Metrics

MAX_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Given by the composition root, or by a test."""

    changes: Changes
    access: Access
    usage: UsageQueries
    revocations: Revocations
    registry: Registry
    #: No token lives longer: then the revocation of a user may end.
    longest_token_s: int
    issuer: TokenIssuer | None
    health: Health
    metrics: Metrics
    clock: Clock

    async def require_admin(self, request: Request) -> None:
        """A dependency of every router but the usage API's."""
        self.access.require_admin(request.headers.get("authorization"))


async def json_object(request: Request) -> dict[str, Any]:
    """The body.

    Raises:
        ApiError: 413 too large, 400 not JSON, 422 not an object.
    """
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise ApiError(413, ErrorCode.PAYLOAD_TOO_LARGE, "Give at most 1 MB")
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            400, ErrorCode.BAD_REQUEST, f"The body is not JSON: {error}"
        ) from None
    if not isinstance(value, dict):
        raise invalid(Problem("document", "give a JSON object"))
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
