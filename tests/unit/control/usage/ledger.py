"""Rows of a ledger, and how its logs are asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from control.completeness import Watermark
from control.usage import COLUMNS

LOGS = "/api/usage/logs"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS),
        "id": UUID(int=number),
        "user_id": "u-1",
        "service": "openai",
        "metadata": {"request": {}},
        "created_at": START + timedelta(seconds=number),
        "recorded_at": START,
        "status": 200,
        **changes,
    }


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def numbers(answer: httpx.Response) -> list[int]:
    return [UUID(one["id"]).int for one in answer.json()["items"]]


def a_mark(node: str, minute: int, *, is_closed: bool = False) -> Watermark:
    return Watermark(
        node=node,
        complete_through=START + timedelta(minutes=minute),
        basis="file",
        pending=0,
        is_closed=is_closed,
        updated_at=START,
    )
