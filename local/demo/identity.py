"""Whom the gateway says the caller is; behind it, a service trusts it alone."""

from typing import Annotated

from fastapi import Depends, Request

from local.demo.accounts import Account
from local.demo.answers import Refusal
from runtime.contracts import HEADER_USER_ID, HEADER_USER_ROLE


def identity(request: Request) -> Account:
    """The caller; 401 when the request came past the gateway."""
    user_id = request.headers.get(HEADER_USER_ID)
    role = request.headers.get(HEADER_USER_ROLE)
    if not user_id or not role:
        raise Refusal(
            401, "IDENTITY_MISSING", "No identity headers: send it through the gateway"
        )
    return Account(user_id, role)


Caller = Annotated[Account, Depends(identity)]
