"""What `authz` reads from the environment."""

import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from authz.audit import AuditScope
from authz.audit_file import AuditFile
from authz.authorizer import OnRedisDown
from authz.journal import Journal, Limits
from runtime.clock import Clock
from runtime.identity.settings import IdentitySettings
from runtime.metrics import Metrics
from runtime.rotated_file import RotatedFile
from runtime.settings import AddressField, RedisSettings, ServiceSettings


class AuthzSettings(ServiceSettings, RedisSettings, IdentitySettings):
    """`HUBGATE_AUTHZ_*` and what every verifier of tokens has."""

    authz_on_redis_down: OnRedisDown = OnRedisDown.DENY
    authz_audit: AuditScope = AuditScope.ALL
    #: Without a file audit lines go to standard error.
    authz_audit_file: Path | None = None
    authz_audit_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    authz_stale_s: float = Field(default=30.0, ge=0, le=3600)
    #: Without a folder no admission journal is kept.
    authz_journal_dir: Path | None = None
    authz_journal_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)

    def audit_lines(self, clock: Clock, metrics: Metrics) -> Callable[[str], object]:
        """What takes the audit lines."""
        if self.authz_audit_file is None:
            return sys.stderr.write
        file = RotatedFile(self.authz_audit_file, self.authz_audit_bytes, clock)
        return AuditFile(file, metrics).write

    def journal(self, clock: Clock, metrics: Metrics) -> Journal | None:
        """The admission journal, when there is a folder for one."""
        if self.authz_journal_dir is None:
            return None
        limits = Limits(capacity_bytes=self.authz_journal_bytes)
        return Journal(self.authz_journal_dir, clock, metrics, limits)


class Settings(AuthzSettings):
    """And where a process of its own listens."""

    authz_listen: AddressField = Field(default="127.0.0.1:9001", validate_default=True)
