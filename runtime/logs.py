"""JSON lines on standard error, one event each, for every logger of the process."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.settings import Environment, LogLevel, ServiceSettings

_LEVELS = {
    Environment.DEVELOPMENT: LogLevel.INFO,
    Environment.TEST: LogLevel.DEBUG,
    Environment.PRODUCTION: LogLevel.INFO,
}
#: Talkative libraries: below this level they describe themselves, not us.
_QUIET = ("alembic", "asyncio", "grpc", "httpx", "uvicorn")

get_logger = structlog.stdlib.get_logger


def level_for(settings: ServiceSettings) -> LogLevel:
    """The level asked for, else the environment's own."""
    return settings.log_level or _LEVELS[settings.env]


def configure(
    service: str, settings: ServiceSettings, stream: TextIO | None = None
) -> None:
    """Route structlog and the standard library to JSON lines.

    Each line has `time` (UTC, ISO 8601), `level`, `service`, `node`, `logger` and
    `event`; `request_id` where `structlog.contextvars` has bound it.
    """

    def stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {"service": service, "node": settings.node_id, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        stamp,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level_for(settings).upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
