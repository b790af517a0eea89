"""`/api/usage/export`: the ledger as a file, and the manifest of that file."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from control.access import Caller
from control.audit import Action
from control.deps import Deps, once
from control.export import Ended, ExportQuery, Format, Manifest, parse_query
from control.pace import Reader, TooSlow
from control.routers.described import Shown, example, parameter, parameters
from control.routers.described_logs import FILTERS, WHOSE
from control.store import StoreUnavailable
from runtime.contracts import USAGE_EXPORT_FORMAT
from runtime.logs import get_logger

log = get_logger(__name__)

#: With them an export that broke off is resumed, and its manifest asked for.
HEADER_SNAPSHOT: Final = "x-usage-snapshot"

_FILTERS: Final = (
    WHOSE,
    *FILTERS,
    parameter("format", "Default: csv.", "parquet", enum=[one.value for one in Format]),
    parameter(
        *("pseudonymize", "Without anything that names a user.", True),
        type="string",
        enum=["true", "false"],
    ),
    parameter(
        "snapshot", "Of an earlier export: the same rows again.", "W251bGwsW1swLDBdXV0"
    ),
)
_SKIP: Final = parameter(
    "skip", "Bytes of that export that you have already.", 1048576, type="integer"
)


#: What is left of a file is none of its kind.
_REST: Final = "application/octet-stream"
_PIECE_BYTES: Final = 256 * 1024


class ManifestAnswer(Shown):
    """What the file must be; `hubgate usage verify` compares."""

    format: str
    file: str
    rows: int
    tokens: int
    credits: int
    adjusted_tokens: int
    adjusted_credits: int
    bytes: int
    sha256: str
    complete_through: str | None
    schema_version: int
    columns: list[str]
    parameters: dict[str, str]
    snapshot: str


_MANIFEST: Final = {
    "format": USAGE_EXPORT_FORMAT,
    "file": "csv",
    "rows": 2,
    "tokens": 30,
    "credits": 3,
    "adjustedTokens": 0,
    "adjustedCredits": -1,
    "bytes": 1234,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "completeThrough": "2026-01-31T08:00:00Z",
    "schemaVersion": 1,
    "columns": ["id", "userId"],
    "parameters": {"format": "csv", "startDate": "2026-01-01T00:00:00Z"},
    "snapshot": "W251bGwsW1swLDBdXV0",
}


class _Stream(StreamingResponse):
    """Ends what makes its content when the client goes away, or hardly reads, at once.

    It then ends without its last chunk, which tells the client that it is not whole.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        reader: Reader,
        **options: Any,
    ) -> None:
        self._rest = rest
        self._reader = reader
        super().__init__(_joined(first, rest), **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def paced(message: Message) -> None:
            await self._reader.take(send(message), len(message.get("body", b"")))

        try:
            await super().__call__(scope, receive, paced)
        except TooSlow:
            taken = self._reader.taken_bytes
            log.warning("export broken off: its reader is too slow", taken_bytes=taken)
        finally:
            await self._rest.aclose()


async def _joined(
    first: bytes, rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """In pieces so small that a reader who stands still is found out soon."""
    for at in range(0, len(first), _PIECE_BYTES):
        yield first[at : at + _PIECE_BYTES]
    async for one in rest:
        for at in range(0, len(one), _PIECE_BYTES):
            yield one[at : at + _PIECE_BYTES]


def router(deps: Deps) -> APIRouter:
    """Every export is written down, also of the own rows: how it began and ended."""
    api = APIRouter(prefix="/api/usage/export", tags=["usage"])
    ends = _Ends(deps)

    @api.get(
        "",
        openapi_extra=parameters(*_FILTERS, _SKIP),
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "The file; `x-usage-snapshot` names its snapshot.",
                "content": {
                    one: {"schema": {"type": "string", "format": "binary"}}
                    for one in (*(each.media_type for each in Format), _REST)
                },
            }
        },
    )
    async def export(request: Request) -> StreamingResponse:
        """Rows as a file, oldest first, from live and archived days alike."""
        caller = await deps.caller(request)
        query = await _allowed(deps, request, caller)
        reader = Reader(deps.pace, deps.clock, deps.metrics)
        ended = ends.of(request, caller, query, reader)
        stream = deps.exports.stream(query, _name(caller), ended)
        # What can't be answered fails here, before there is a status.
        first = await anext(stream)
        parameters_ = {**query.parameters(), "snapshot": str(query.snapshot)}
        where = f"/api/usage/export/manifest?{urlencode(parameters_)}"
        return _Stream(
            *(first, stream, reader),
            media_type=_REST if query.skip else query.format.media_type,
            headers={
                "content-disposition": (
                    f'attachment; filename="usage.{query.format.value}"'
                ),
                HEADER_SNAPSHOT: str(query.snapshot),
                "link": f'<{where}>; rel="describedby"',
                "cache-control": "no-store",
            },
        )

    @api.get(
        "/manifest",
        openapi_extra=parameters(*_FILTERS),
        response_model=ManifestAnswer,
        responses=example("What the file must be.", _MANIFEST),
    )
    async def manifest(request: Request) -> dict[str, Any]:
        """Of the file that the same parameters give; it is made again if need be."""
        caller = await deps.caller(request)
        query = await _allowed(deps, request, caller)
        known = deps.exports.manifest_of(query)
        if known is None:
            known = await deps.exports.manifest(query, _name(caller))
        return known.as_json()

    return api


async def _allowed(deps: Deps, request: Request, caller: Caller) -> ExportQuery:
    """What is asked for, of what may be seen; noted."""
    query = parse_query(once(request))
    seen = await deps.sight(
        *(request, caller, Action.EXPORT, query.chosen.user_id), is_always_noted=True
    )
    return await deps.exports.fixed(query.within(seen))


class _Ends:
    """Notes how exports end.

    In tasks of their own: a client that goes away takes its own task with it.
    """

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._tasks: set[asyncio.Task[None]] = set()

    def of(
        self, request: Request, caller: Caller, query: ExportQuery, reader: Reader
    ) -> Ended:
        def note(made: Manifest | None, why: str) -> None:
            why = TooSlow.__name__ if reader.is_too_slow else why
            details = _details(query, made, why)
            task = asyncio.create_task(self._note(request, caller, query, details))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return note

    async def _note(
        self,
        request: Request,
        caller: Caller,
        query: ExportQuery,
        details: dict[str, Any],
    ) -> None:
        try:
            await self._deps.note(
                *(request, caller, Action.EXPORT_ENDED),
                subject=query.chosen.user_id,
                details=details,
            )
        except StoreUnavailable as error:
            # Its beginning is written down.
            log.warning("end of an export not noted", why=repr(error))


def _details(query: ExportQuery, made: Manifest | None, why: str) -> dict[str, Any]:
    details: dict[str, Any] = {"parameters": query.parameters()}
    if made is None:
        return {**details, "brokenOff": why}
    said = made.as_json()
    names = ("rows", "tokens", "credits", "bytes", "sha256")
    return {**details, **{name: said[name] for name in names}}


def _name(caller: Caller) -> str:
    return caller.user_id or ""
