"""The tables of what was recorded, sealed, corrected, put aside and archived."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from runtime.contracts import (
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_ARCHIVES,
    TABLE_USAGE_CHAINS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_SEALS,
    Outcome,
    Pricing,
    UsageSource,
)
from usage_sink.schema_columns import counts, instant
from usage_sink.tables import TABLE_QUARANTINE, TABLE_REPORT_IDS

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
    instant("recorded_at", default=True),
    Column("reasoning_tokens", Integer),
    Column("chain", Integer, nullable=False),
    Column("seal", BigInteger, nullable=False),
    Column(
        "billable",
        Boolean,
        Computed(
            # As PostgreSQL tells it: the comparison with the migrations is by text.
            "pricing <> 'free'::text AND outcome <> ALL "
            "(ARRAY['denied'::text, 'limited'::text, 'unsettled'::text])",
            persisted=True,
        ),
        nullable=False,
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
    Index("usage_logs_created_at_id", "created_at", "id"),
    Index("usage_logs_user_id_created_at", "user_id", "created_at"),
    Index("usage_logs_service_created_at", "service", "created_at"),
    Index(
        "usage_logs_model_created_at",
        "model",
        "created_at",
        postgresql_where=text("model IS NOT NULL"),
    ),
    Index(
        "usage_logs_failed",
        "created_at",
        "id",
        # As PostgreSQL tells it, and as `control.usage_sql` says it.
        postgresql_where=text("status >= 400 OR outcome <> 'ok'::text"),
    ),
    Index("usage_logs_user_id_service", "user_id", "service"),
    postgresql_partition_by="RANGE (created_at)",
)

usage_quarantine = Table(
    TABLE_QUARANTINE,
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # Of the reason and the attributes: a replayed batch adds nothing.
    Column("digest", LargeBinary, nullable=False, unique=True),
    instant("received_at", default=True),
    Column("reason", Text, nullable=False),
    Column("attributes", JSONB, nullable=False),
)

usage_chains = Table(
    TABLE_USAGE_CHAINS,
    metadata,
    Column("chain", Integer, Identity(always=True), primary_key=True),
    # A spool's own id: who has the spool continues its chain.
    Column("name", Text, nullable=False, unique=True),
    Column("node", Text, nullable=False),
    instant("started_at", default=True),
)

usage_seals = Table(
    TABLE_USAGE_SEALS,
    metadata,
    Column("chain", Integer, ForeignKey("usage_chains.chain"), primary_key=True),
    Column("seal", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),
    instant("sealed_at"),
    Index("usage_seals_day", "day"),
)

usage_adjustments = Table(
    TABLE_USAGE_ADJUSTMENTS,
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("usage_id", Uuid, nullable=False),
    instant("usage_created_at"),
    # What is added to the row's own figures; may be negative.
    Column("tokens", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("credits", Integer, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    instant("created_at", default=True),
    Column("chain", Integer, nullable=False),
    Column("seal", BigInteger, nullable=False),
    UniqueConstraint(
        "usage_id", "reason", "price_version", name="usage_adjustments_once"
    ),
    Index("usage_adjustments_usage_created_at", "usage_created_at"),
)

usage_archives = Table(
    TABLE_USAGE_ARCHIVES,
    metadata,
    Column("day", Date, primary_key=True),
    Column("file", Text, nullable=False),
    *counts("rows", "tokens", "credits"),
    Column("sha256", Text, nullable=False),
    instant("archived_at", default=True),
    instant("dropped_at", null=True),
    instant("restored_at", null=True),
)

usage_report_ids = Table(
    TABLE_REPORT_IDS,
    metadata,
    # A reported call keeps the time that was reported first, however often it comes.
    Column("id", Uuid, primary_key=True),
    instant("created_at"),
)
