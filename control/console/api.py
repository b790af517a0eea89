"""The usage API, asked in the process and in the caller's own name.

The console can so never show what the API would not: who may see what, limits and the
audit of reads are the API's alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from control.errors import ApiError
from control.parse import Problem
from runtime.contracts import HEADER_REQUEST_ID

#: In the process no time is lost on the way; the API has deadlines of its own.
_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """An answer."""

    body: Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is none, in the API's words."""

    status: int
    code: str
    message: str
    problems: tuple[Problem, ...] = ()

    def error(self) -> ApiError:
        """The same, as the console's own answer."""
        return ApiError(self.status, self.code, self.message, self.problems)


class UsageApi:
    """What one caller is told."""

    def __init__(self, app: FastAPI, authorization: str | None, request_id: str):
        headers = {HEADER_REQUEST_ID: request_id}
        if authorization is not None:
            headers["authorization"] = authorization
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://control",
            headers=headers,
            timeout=_DEADLINE_S,
        )

    async def get(self, path: str, parameters: Mapping[str, str]) -> Found | Refusal:
        answer = await self._client.get(path, params=dict(parameters))
        try:
            body = answer.json()
        except ValueError:
            body = {}
        if answer.is_success:
            return Found(body)
        problems = tuple(
            Problem(one["field"], one["message"], given=one.get("given"))
            for one in body.get("errors", ())
        )
        code = str(body.get("code", "INTERNAL"))
        message = str(body.get("message", "There is no answer to this"))
        return Refusal(answer.status_code, code, message, problems)
