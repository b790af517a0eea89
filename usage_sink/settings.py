"""What the usage sink reads from the environment."""

import os

from pydantic import Field

from runtime.settings import (
    AddressField,
    PostgresSettings,
    RedisSettings,
    ServiceSettings,
)
from usage_sink.buffer import Limits


class Settings(ServiceSettings, RedisSettings, PostgresSettings):
    """The usage sink's own, and what it shares with every process."""

    usage_sink_listen: AddressField
    #: Rows of one transaction, and how long the first of them waits for others.
    usage_sink_batch_rows: int = Field(default=2000, ge=1, le=50_000)
    usage_sink_batch_wait_s: float = Field(default=0.01, ge=0, le=1)
    #: Rows in memory; a row takes about 3 KB.
    usage_sink_buffer_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    usage_sink_prices_wait_s: float = Field(default=30.0, ge=0, le=3600)
    usage_sink_partition_days: int = Field(default=7, ge=1, le=366)

    def limits(self) -> Limits:
        return Limits(
            batch_rows=self.usage_sink_batch_rows,
            wait_s=self.usage_sink_batch_wait_s,
            capacity_rows=self.usage_sink_buffer_rows,
        )


def load() -> Settings:
    """From this process's environment.

    Raises:
        SettingsError: naming every bad variable.
    """
    return Settings.from_environ(os.environ)
