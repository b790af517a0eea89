"""ext_proc on the wire: a stream for every long connection, ended with its token.

Envoy: envoy.service.ext_proc.v3.ExternalProcessor. Who it is comes as the dynamic
metadata that `authz` gave when it let the request pass.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.json_format import MessageToDict

from authz.sessions import Ending, Session, Sessions
from runtime.answers import error_body
from runtime.contracts import (
    AUTHZ_NAMESPACE,
    METADATA_EXPIRES_AT,
    METADATA_ISSUED_AT,
    METADATA_ROLE,
    METADATA_TOKEN_ID,
    METADATA_USER_ID,
    ErrorCode,
)
from runtime.grpc_server import RpcError, RpcStatus, Stream
from runtime.identity.tokens import Claims
from runtime.logs import get_logger

log = get_logger(__name__)

PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

_CODES = {
    Ending.EXPIRED: ErrorCode.TOKEN_EXPIRED,
    Ending.REVOKED: ErrorCode.TOKEN_REVOKED,
}


class SessionService:
    """The adapter between Envoy's streams and the sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def methods(self) -> list[Stream]:
        return [
            Stream(
                PATH,
                pb.ProcessingRequest.FromString,
                pb.ProcessingResponse.SerializeToString,
                self.process,
            )
        ]

    async def process(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Let everything pass, until the token ends.

        Raises:
            RpcError: this process stops; Envoy does what `failure_mode_allow` says.
        """
        first = await anext(requests, None)
        if first is None:
            return
        claims = _claims(first)
        if claims is None:
            yield _continue(first)
            # A guest: nothing can end, and Envoy goes on alone.
            return
        session = self._sessions.open(claims)
        try:
            yield _continue(first)
            async for request in _until_ended(requests, session):
                yield _continue(request)
            if session.ended.done():
                yield self._end(session)
        finally:
            self._sessions.close(session)

    def _end(self, session: Session) -> Any:
        why, claims = session.ended.result(), session.claims
        log.info("connection ended", reason=why, user=claims.sub, token_id=claims.jti)
        if why is Ending.STOPPING:
            raise RpcError(RpcStatus.UNAVAILABLE, "authz stops")
        response = pb.ProcessingResponse()
        answer = response.immediate_response
        answer.status.code = 401
        answer.body = error_body(_CODES[why], "The token is not in force", None)
        answer.details = f"session_{why}"
        return response


async def _until_ended(
    requests: AsyncIterator[Any], session: Session
) -> AsyncIterator[Any]:
    """Requests, until there are no more or the session has ended."""
    while True:
        upcoming = asyncio.ensure_future(anext(requests, None))
        try:
            await asyncio.wait(
                (upcoming, session.ended), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if not upcoming.done():
                upcoming.cancel()
        if session.ended.done():
            with suppress(asyncio.CancelledError, Exception):
                await upcoming
            return
        request = upcoming.result()
        if request is None:
            return
        yield request


def _claims(request: Any) -> Claims | None:
    """Of the token that `authz` accepted; None: a guest.

    Raises:
        RpcError: a user without a token's end; the two belong together.
    """
    found: Mapping[str, Any] = {}
    metadata = request.metadata_context.filter_metadata
    if AUTHZ_NAMESPACE in metadata:
        found = MessageToDict(metadata[AUTHZ_NAMESPACE])
    user, expires_at = found.get(METADATA_USER_ID), found.get(METADATA_EXPIRES_AT)
    if user is None:
        return None
    if expires_at is None:
        raise RpcError(RpcStatus.PERMISSION_DENIED, "a user without a token")
    return Claims(
        sub=user,
        role=found[METADATA_ROLE],
        exp=expires_at,
        iat=found.get(METADATA_ISSUED_AT),
        jti=found.get(METADATA_TOKEN_ID),
    )


def _continue(request: Any) -> Any:
    response = pb.ProcessingResponse()
    match request.WhichOneof("request"):
        case "request_headers":
            response.request_headers.SetInParent()
        case "response_headers":
            response.response_headers.SetInParent()
        case "request_trailers":
            response.request_trailers.SetInParent()
        case _:
            response.response_trailers.SetInParent()
    return response
