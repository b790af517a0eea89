"""Control's API over memory twins, for who has the admin token."""

import httpx
from fastapi import FastAPI

from control.api import create_app
from tests.builders_control import ADMIN_TOKEN, Parts, a_config

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
ROUTE = {"path": "/a", "service": "core"}
CONFIG = "/control/v1"


async def started() -> Parts:
    parts = Parts()
    await parts.changes.start(a_config({"id": "first", "path": "/first"}))
    return parts


def a_client(parts: Parts, *, signs: bool = True) -> httpx.AsyncClient:
    return client_of(create_app(parts.deps(signs=signs)))


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://c", headers=ADMIN)
