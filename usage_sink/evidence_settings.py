"""What the usage sink must know of the witnesses of its completeness."""

from pathlib import Path

from pydantic import Field

from runtime.settings import AddressField, PostgresSettings
from usage_sink.settle import Grace


class EvidenceSettings(PostgresSettings):
    """Where the witnesses are; without a value one is not asked."""

    authz_journal_dir: Path | None = None
    access_log_file: Path | None = None
    access_log_rotate_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    envoy_admin: AddressField | None = None
    unsettled_after_s: float = Field(default=30.0, ge=0)
    unsettled_live_after_s: float = Field(default=86_400.0, ge=0)

    def grace(self) -> Grace:
        return Grace(self.unsettled_after_s, self.unsettled_live_after_s)
