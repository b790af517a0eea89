"""Control with a route in force, and its API."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.builders_control import Parts
from tests.unit.control.api.client import a_client, started


@pytest.fixture
async def parts() -> Parts:
    return await started()


@pytest.fixture
async def api(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(parts) as client:
        yield client
