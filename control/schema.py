"""Control's tables, as the newest migration leaves them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from runtime.contracts import (
    TABLE_ALERT_OUTBOX,
    TABLE_ALERT_RULES,
    TABLE_ALERT_STATES,
    TABLE_AUDIT_LOG,
    TABLE_CONFIG_REVISIONS,
    TABLE_USAGE_PSEUDONYMS,
)

metadata: Final = MetaData()

config_revisions: Final = Table(
    TABLE_CONFIG_REVISIONS,
    metadata,
    Column("rev", BigInteger, Identity(always=True), primary_key=True),
    Column("document", JSONB, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Index("config_revisions_active", "rev", postgresql_where=text("status = 'active'")),
    Index("config_revisions_author", "author", "rev"),
)

audit_log: Final = Table(
    TABLE_AUDIT_LOG,
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("actor", Text),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text),
    Column("details", JSONB, nullable=False),
    Column("request_id", UUID),
    Index("audit_log_at", "at", "id"),
    Index("audit_log_actor", "actor", "id"),
    Index("audit_log_subject", "subject", "id"),
)

usage_pseudonyms: Final = Table(
    TABLE_USAGE_PSEUDONYMS,
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("key", LargeBinary),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column("destroyed_at", DateTime(timezone=True)),
)


def _now(name: str) -> Column[object]:
    return Column(
        name, DateTime(timezone=True), nullable=False, server_default=func.now()
    )


alert_rules: Final = Table(
    TABLE_ALERT_RULES,
    metadata,
    Column("id", Text, primary_key=True),
    Column("document", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="1"),
    _now("created_at"),
    _now("updated_at"),
)

alert_states: Final = Table(
    TABLE_ALERT_STATES,
    metadata,
    Column("rule", Text, primary_key=True),
    Column("document", JSONB, nullable=False),
    _now("updated_at"),
)

alert_outbox: Final = Table(
    TABLE_ALERT_OUTBOX,
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("rule", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    _now("created_at"),
    _now("next_at"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("done_at", DateTime(timezone=True)),
    UniqueConstraint("fingerprint", "starts_at", "status", name="alert_outbox_once"),
    Index(
        "alert_outbox_waiting", "rule", "id", postgresql_where=text("done_at IS NULL")
    ),
)
