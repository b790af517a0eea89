"""Health as named components, polled on demand, each within a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Check = Callable[[], Awaitable[None]]

CHECK_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`components` maps a name to "ok" or to why it is not."""

    components: dict[str, str]

    @property
    def is_ready(self) -> bool:
        return all(state == "ok" for state in self.components.values())

    def as_json(self) -> dict[str, object]:
        return {
            "status": "ok" if self.is_ready else "unavailable",
            "components": self.components,
        }


class Health:
    """The components of one process."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """`check` returns when the component works and raises when it does not."""
        self._checks[name] = check

    async def report(self) -> HealthReport:
        states = await asyncio.gather(*map(_state, self._checks.values()))
        return HealthReport(dict(zip(self._checks, states, strict=True)))


async def _state(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a component raises, it is down
        # The type only: a driver's message may hold a URL with its password.
        return type(error).__name__
    return "ok"
