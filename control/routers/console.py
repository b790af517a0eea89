"""`/console`: the page, its files, and the views that its script asks for."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from control.answers import request_id
from control.console import filters, view
from control.console.api import Refusal, UsageApi
from control.deps import Deps, once
from control.errors import ApiError
from runtime.contracts import ErrorCode

#: Nothing from elsewhere, no script in the page, no form that a browser sends itself.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_NOT_KEPT: Final = {**_HEADERS, "cache-control": "no-store"}
_PAGE: Final = "console.html"
_FILES: Final = {
    _PAGE: "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    def answer(self, request: Request) -> Response:
        # Asked for again each time, sent again only after a new release.
        headers = {**_HEADERS, "cache-control": "no-cache", "etag": self.tag}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def router(deps: Deps) -> APIRouter:
    """The page is for everyone; what is in it only for who may see it."""
    api = APIRouter(prefix="/console", include_in_schema=False)
    kept = {name: _read(name, kind) for name, kind in _FILES.items()}

    @api.get("")
    @api.get("/")
    async def page(request: Request) -> Response:
        return kept[_PAGE].answer(request)

    @api.get("/view")
    async def usage(request: Request) -> HTMLResponse:
        caller = await deps.access.caller(request.headers.get("authorization"))
        chosen = filters.read(once(request), deps.clock.now())
        found = await view.usage(_api(request), caller, chosen)
        return _html(found)

    @api.get("/calls")
    async def calls(request: Request) -> HTMLResponse:
        await deps.access.caller(request.headers.get("authorization"))
        return _html(await view.calls(_api(request), once(request)))

    @api.get("/{name}")
    async def file(request: Request, name: str) -> Response:
        if name not in kept or name == _PAGE:
            raise ApiError(404, ErrorCode.ROUTE_NOT_FOUND, "No such path")
        return kept[name].answer(request)

    return api


def _api(request: Request) -> UsageApi:
    authorization = request.headers.get("authorization")
    return UsageApi(request.app, authorization, request_id(request))


def _html(found: str | Refusal) -> HTMLResponse:
    if isinstance(found, Refusal):
        raise found.error()
    return HTMLResponse(found, headers=_NOT_KEPT)


def _read(name: str, media_type: str) -> _File:
    content = files("control.console").joinpath("static", name).read_bytes()
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
