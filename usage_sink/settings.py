"""What the usage sink reads from the environment."""

import os
from pathlib import Path

from pydantic import Field

from runtime.settings import (
    AddressField,
    PostgresSettings,
    RedisSettings,
    SecretFileField,
    ServiceSettings,
)
from usage_sink.batches import BatchLimits
from usage_sink.evidence_settings import EvidenceSettings
from usage_sink.spool import SEGMENT_BYTES, Bounds


class Settings(EvidenceSettings, ServiceSettings, RedisSettings, PostgresSettings):
    """The usage sink's own, and what it shares with every process."""

    usage_sink_listen: AddressField
    #: What is received and not in the ledger yet; one process per folder.
    usage_sink_spool_dir: Path
    #: Where trusted services report usage, and the secret that they show.
    usage_ingest_listen: AddressField | None = None
    usage_ingest_token_file: SecretFileField | None = None
    #: Beyond it new batches are refused; Envoy keeps them, and its file log has them.
    usage_sink_spool_bytes: int = Field(default=2 * 1024**3, ge=1024**2)
    #: Rows of one transaction, and how long fewer wait for others after the one before.
    usage_sink_batch_rows: int = Field(default=5000, ge=1, le=50_000)
    usage_sink_batch_wait_s: float = Field(default=0.4, ge=0, le=1)
    usage_sink_prices_wait_s: float = Field(default=30.0, ge=0, le=3600)
    #: How often closed days and months without current sums are looked for.
    usage_sink_compaction_interval_s: float = Field(default=300.0, gt=0, le=86_400)
    usage_sink_partition_days: int = Field(default=7, ge=1, le=366)

    def bounds(self) -> Bounds:
        total = self.usage_sink_spool_bytes
        # Room is given back by whole segments.
        return Bounds(total, min(SEGMENT_BYTES, total // 8))

    def batch_limits(self) -> BatchLimits:
        return BatchLimits(self.usage_sink_batch_rows, self.usage_sink_batch_wait_s)


def load() -> Settings:
    """From this process's environment.

    Raises:
        SettingsError: naming every bad variable.
    """
    return Settings.from_environ(os.environ)
