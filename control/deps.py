"""What the control API is made of, and how a request's body is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Request

from control.access import Access, Caller
from control.answer_cache import AnswerCache
from control.audit import Action, AuditLog, Entry
from control.changes import Changes
from control.errors import ApiError, invalid
from control.export import Exporter
from control.following import Registry
from control.live import Live
from control.nodes import Nodes
from control.pace import Pace
from control.parameters import BadParameters
from control.parse import Problem
from control.pseudonyms import Pseudonyms
from control.sight import Sight, sight
from control.store import Revocations, UsageQueries
from control.tokens import TokenIssuer
from control.usage_totals import Totals
from runtime.clock import Clock
from runtime.contracts import HEADER_REQUEST_ID, ErrorCode
from runtime.health import Health
from runtime.metrics import Metrics

MAX_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Given by the composition root, or by a test."""

    changes: Changes
    access: Access
    usage: UsageQueries
    totals: Totals
    answers: AnswerCache
    audit: AuditLog
    exports: Exporter
    #: Asked of who reads an export.
    pace: Pace
    pseudonyms: Pseudonyms
    nodes: Nodes
    live: Live
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

    async def caller(self, request: Request) -> Caller:
        """Who asks; raises ApiError 401, or 503 when nobody can tell."""
        return await self.access.caller(request.headers.get("authorization"))

    async def admin(self, request: Request) -> Caller:
        """Who asks, by the admin token or their own; raises ApiError 403: no admin."""
        caller = await self.caller(request)
        if not caller.is_admin:
            raise ApiError(403, ErrorCode.FORBIDDEN, "Only administrators may do this")
        return caller

    async def sight(
        self,
        request: Request,
        caller: Caller,
        action: Action,
        user_id: str | None,
        *,
        is_always_noted: bool = False,
    ) -> Sight:
        """What of the ledger `caller` sees who asks for `user_id`, or for all they may.

        Written down before anything is answered when it is not the own usage only: no
        audit, no answer.

        Raises:
            ApiError: 403, somebody else's.
            StoreUnavailable: it can't be written down.
        """
        seen = sight(caller, user_id, self.changes.config.usage)
        if seen.is_of_others or is_always_noted:
            await self.note(request, caller, action, subject=seen.subject)
        return seen

    async def note(
        self,
        request: Request,
        caller: Caller,
        action: Action,
        *,
        subject: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write to the audit log; the request's parameters, unless `details` are given.

        Raises:
            StoreUnavailable: it is not written.
        """
        if details is None:
            details = dict(request.query_params)
        await self.audit.add(entry_of(request, caller, action, details, subject))


def entry_of(
    request: Request,
    caller: Caller,
    action: Action,
    details: Mapping[str, Any],
    subject: str | None = None,
) -> Entry:
    """For the audit log."""
    return Entry(
        actor=caller.user_id,
        role=caller.role,
        action=action,
        subject=subject,
        details=details,
        request_id=_request_id(request),
    )


def once(request: Request) -> Mapping[str, str]:
    """The query's parameters; raises BadParameters when one is given twice."""
    parameters = request.query_params
    repeated = {one for one in parameters if len(parameters.getlist(one)) > 1}
    if repeated:
        raise BadParameters(
            [
                Problem(one, "given twice; give it once", given=parameters[one])
                for one in sorted(repeated)
            ]
        )
    return parameters


def _request_id(request: Request) -> UUID | None:
    try:
        return UUID(request.headers.get(HEADER_REQUEST_ID, ""))
    except ValueError:
        return None


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
