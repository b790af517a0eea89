"""What the commands read from the environment; their options go before it."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from runtime.settings import (
    LogLevel,
    PostgresSettings,
    ServiceSettings,
    SettingsError,
)
from usage_sink.heads import KEPT_HEADS
from usage_sink.pricing import KEPT_BOOK


class Settings(ServiceSettings, PostgresSettings):
    """`database_url` is the owner's; `archive` has a login of its own."""

    log_level: LogLevel | None = LogLevel.WARNING
    usage_sink_spool_dir: Path | None = None
    archive_dir: Path | None = None
    #: Whole UTC days that stay in the ledger, today and yesterday not counted.
    ledger_keep_days: int | None = Field(default=None, ge=2, le=36_500)

    def archives(self) -> Path:
        """Raises SettingsError: not said, or no folder."""
        if self.archive_dir is None:
            raise SettingsError(["HUBGATE_ARCHIVE_DIR: say where, with --archive-dir"])
        if not self.archive_dir.is_dir():
            raise SettingsError([f"HUBGATE_ARCHIVE_DIR: no folder {self.archive_dir}"])
        return self.archive_dir

    def heads(self) -> Path | None:
        """Heads of the chain outside the database, when the spool is here."""
        return self._in_spool(KEPT_HEADS)

    def book(self) -> Path | None:
        """The price book that the running sink keeps."""
        return self._in_spool(KEPT_BOOK)

    def _in_spool(self, name: str) -> Path | None:
        if self.usage_sink_spool_dir is None:
            return None
        return self.usage_sink_spool_dir / name


def load(options: Mapping[str, str | None]) -> Settings:
    """The environment, with the options that were given in its place.

    Raises:
        SettingsError: naming every bad variable.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return Settings.from_environ({**os.environ, **given})
