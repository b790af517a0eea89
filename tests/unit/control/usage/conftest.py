"""Some rows of two users, and the API that shows them."""

from collections.abc import AsyncIterator

import httpx
import pytest

from control.api import create_app
from tests.builders_control import Parts, a_config
from tests.unit.control.usage.ledger import a_row


@pytest.fixture
def parts() -> Parts:
    parts = Parts()
    parts.usage.rows = [a_row(1), a_row(2), a_row(3, user_id="u-2"), a_row(4)]
    return parts


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    await parts.changes.start(a_config())
    transport = httpx.ASGITransport(create_app(parts.deps()))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client
