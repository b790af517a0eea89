"""core-service: users and their credits, kept in memory."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from local.demo.accounts import ACCOUNTS
from local.demo.answers import Refusal, add_health, answer_in_json
from local.demo.identity import Caller
from runtime.contracts import HEADER_REQUEST_ID, HEADER_USER_ID, HEADER_USER_ROLE

START_BALANCE: Final = 1_000
_MAX_USERS: Final = 10_000
_ECHOED: Final = (HEADER_USER_ID, HEADER_USER_ROLE, HEADER_REQUEST_ID, "traceparent")


class InsufficientCreditsError(Exception):
    """The balance does not cover the amount."""


class Balances:
    """Credits per user; whoever was seen longest ago starts afresh when it is full."""

    def __init__(self, capacity: int = _MAX_USERS) -> None:
        self._capacity = capacity
        self._balances: OrderedDict[str, int] = OrderedDict()

    def balance(self, user_id: str) -> int:
        return self._balances.get(user_id, START_BALANCE)

    def deduct(self, user_id: str, amount: int) -> int:
        """The new balance."""
        left = self.balance(user_id) - amount
        if left < 0:
            raise InsufficientCreditsError
        self._balances[user_id] = left
        self._balances.move_to_end(user_id)
        if len(self._balances) > self._capacity:
            self._balances.popitem(last=False)
        return left


@dataclass(frozen=True, slots=True)
class CoreDeps:
    """What core-service stands on."""

    balances: Balances = field(default_factory=Balances)


class Deduction(BaseModel):
    """Body of POST /api/credits/deduct."""

    amount: int = Field(ge=1, le=1_000_000, strict=True)


def create_app(deps: CoreDeps) -> FastAPI:
    """Users, credits and /health."""
    app = FastAPI(title="core-service", openapi_url=None)
    answer_in_json(app)
    add_health(app, "core-service")
    _add_users(app)
    _add_credits(app, deps.balances)
    return app


def _add_users(app: FastAPI) -> None:
    @app.get("/api/users/me")
    async def me(request: Request, caller: Caller) -> dict[str, object]:
        headers = request.headers
        return {
            "id": caller.id,
            "role": caller.role,
            "requestId": headers.get(HEADER_REQUEST_ID),
            "headers": {name: headers[name] for name in _ECHOED if name in headers},
        }

    @app.get("/api/users/{user_id}")
    async def user(user_id: str, caller: Caller) -> dict[str, str]:
        found = caller if user_id == caller.id else ACCOUNTS.get(user_id)
        if found is None:
            raise Refusal(404, "USER_NOT_FOUND", "There is no such user")
        return {"id": found.id, "role": found.role}


def _add_credits(app: FastAPI, balances: Balances) -> None:
    @app.get("/api/credits/balance")
    async def balance(caller: Caller) -> dict[str, str | int]:
        return {"userId": caller.id, "balance": balances.balance(caller.id)}

    @app.post("/api/credits/deduct")
    async def deduct(body: Deduction, caller: Caller) -> dict[str, str | int]:
        try:
            left = balances.deduct(caller.id, body.amount)
        except InsufficientCreditsError:
            message = "The balance does not cover the amount"
            raise Refusal(402, "INSUFFICIENT_CREDITS", message) from None
        return {"userId": caller.id, "balance": left}
