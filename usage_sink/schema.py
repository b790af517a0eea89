"""The ledger's tables, as the newest migration leaves them.

For queries and for the test that compares them with the migrated database; what
SQLAlchemy can't say (partitions, triggers) is in `migrations/`.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from runtime.contracts import TABLE_USAGE_LOGS, Pricing, UsageSource
from usage_sink.outcome import Outcome

TABLE_QUARANTINE: Final = "usage_quarantine"

metadata = MetaData()


def _one_of(column: str, values: type[Outcome | Pricing | UsageSource]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


def _not_negative(*columns: str) -> str:
    return " AND ".join(f"{column} >= 0" for column in columns)


usage_logs = Table(
    TABLE_USAGE_LOGS,
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Text),
    Column("service", Text, nullable=False),
    Column("model", Text),
    Column("tokens", Integer, nullable=False),
    Column("credits", Integer, nullable=False),
    Column("metadata", JSONB, nullable=False),
    # Part of the key because the table is partitioned by it. It comes from Envoy
    # with the entry, so a replay has the same one: an id never gets a second row.
    Column("created_at", DateTime(timezone=True), primary_key=True),
    Column("route", Text),
    Column("method", Text),
    Column("status", SmallInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("usage_source", Text, nullable=False),
    Column("pricing", Text, nullable=False),
    Column("price_version", Text),
    Column("role", Text),
    Column("node", Text, nullable=False),
    Column(
        "recorded_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    CheckConstraint(
        _not_negative(
            "tokens", "credits", "duration_ms", "bytes_received", "bytes_sent"
        ),
        name="usage_logs_amounts_are_not_negative",
    ),
    CheckConstraint(
        _not_negative("input_tokens", "output_tokens", "cached_tokens"),
        name="usage_logs_tokens_are_not_negative",
    ),
    CheckConstraint("status BETWEEN 0 AND 599", name="usage_logs_status_is_http"),
    CheckConstraint(_one_of("outcome", Outcome), name="usage_logs_outcome_is_known"),
    CheckConstraint(
        _one_of("usage_source", UsageSource), name="usage_logs_source_is_known"
    ),
    CheckConstraint(_one_of("pricing", Pricing), name="usage_logs_pricing_is_known"),
    CheckConstraint(
        "jsonb_typeof(metadata) = 'object'", name="usage_logs_metadata_is_an_object"
    ),
    Index("usage_logs_user_id_created_at", "user_id", "created_at"),
    Index("usage_logs_service_created_at", "service", "created_at"),
    Index("usage_logs_model_created_at", "model", "created_at"),
    Index("usage_logs_user_id_service", "user_id", "service"),
    postgresql_partition_by="RANGE (created_at)",
)

usage_quarantine = Table(
    TABLE_QUARANTINE,
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # Of the reason and the attributes: a replayed batch adds nothing.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column(
        "received_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column("reason", Text, nullable=False),
    Column("attributes", JSONB, nullable=False),
)
