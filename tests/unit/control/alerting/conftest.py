"""A bench of alerting, and its API."""

from collections.abc import AsyncIterator

import httpx
import pytest

from control.api import create_app
from tests.unit.control.alerting.bench import ADMIN, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(bench.parts.deps()))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c", headers=ADMIN
    ) as client:
        yield client
