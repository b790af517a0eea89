"""Alerting over memory twins, and its API."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from control.alerting import Alerting, AlertPorts
from control.webhook import MemoryWebhooks
from control.window_sums import MemoryWindowSums
from tests.builders_control import ADMIN_TOKEN, Parts

ALERTS = "/control/v1/alerts"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
URL = "https://alerts.example.com/hook"


class Bench:
    def __init__(self) -> None:
        self.parts = Parts()
        self.webhooks = MemoryWebhooks()
        self.alerting = self.new(self.parts.sums)

    def new(self, sums: MemoryWindowSums) -> Alerting:
        ports = AlertPorts(
            store=self.parts.alerts,
            sums=sums,
            usage=self.parts.usage,
            webhooks=self.webhooks,
            clock=self.parts.clock,
            metrics=self.parts.metrics,
        )
        return Alerting(ports, 15.0)

    def calls(self, number: int, **changes: Any) -> None:
        at = datetime.fromtimestamp(self.parts.clock.now(), UTC)
        row = {
            "created_at": at - timedelta(seconds=1),
            "status": 200,
            "tokens": 0,
            "credits": 0,
            "duration_ms": 5,
            "service": "openai",
            **changes,
        }
        self.parts.sums.rows += [row] * number

    async def round(self, seconds: float = 15.0) -> None:
        await self.alerting.evaluate()
        await self.alerting.deliver()
        self.parts.clock.advance(seconds)

    @property
    def told(self) -> list[str]:
        return [str(body["status"]) for _, body in self.webhooks.sent]


async def put(api: httpx.AsyncClient, name: str = "a", **changes: Any) -> None:
    body = {"metric": "volume", "threshold": 10, "window": "1m", "webhook": URL}
    answer = await api.put(f"{ALERTS}/{name}", json={**body, **changes})
    assert answer.status_code in (200, 201), answer.text


async def state(api: httpx.AsyncClient, name: str = "a") -> dict[str, Any]:
    answer = await api.get(f"{ALERTS}/{name}")
    return dict(answer.json()["state"])
