"""The ledger's tables, as the newest migration leaves them.

For queries and for the test that compares them with the migrated database; what
SQLAlchemy can't say (partitions, triggers) is in `migrations/`.
"""

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
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from runtime.contracts import (
    LATENCY_BUCKETS,
    TABLE_USAGE_ADJUSTMENTS,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_LOGS,
    TABLE_USAGE_MINUTES,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    TABLE_USAGE_PARTS,
    TABLE_USAGE_TIERS,
    TABLE_USAGE_USER_PARTS,
    TABLE_USAGE_WATERMARKS,
    TABLE_USAGE_WEEKLY,
    USAGE_SUMS,
    Outcome,
    Pricing,
    UsageSource,
)
from usage_sink.tables import (
    TABLE_ARCHIVES,
    TABLE_CHAINS,
    TABLE_QUARANTINE,
    TABLE_REPORT_IDS,
    TABLE_SEALS,
)

metadata = MetaData()


def _time(name: str, *, default: bool = False, null: bool = False) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=null,
        server_default=func.now() if default else None,
    )


def _counts(*names: str, default: bool = False) -> list[Column[int]]:
    zero = "0" if default else None
    return [
        Column(name, BigInteger, nullable=False, server_default=zero) for name in names
    ]


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
    _time("recorded_at", default=True),
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
    _time("received_at", default=True),
    Column("reason", Text, nullable=False),
    Column("attributes", JSONB, nullable=False),
)

usage_chains = Table(
    TABLE_CHAINS,
    metadata,
    Column("chain", Integer, Identity(always=True), primary_key=True),
    # A spool's own id: who has the spool continues its chain.
    Column("name", Text, nullable=False, unique=True),
    Column("node", Text, nullable=False),
    _time("started_at", default=True),
)

usage_seals = Table(
    TABLE_SEALS,
    metadata,
    Column("chain", Integer, ForeignKey("usage_chains.chain"), primary_key=True),
    Column("seal", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),
    _time("sealed_at"),
    Index("usage_seals_day", "day"),
)

usage_adjustments = Table(
    TABLE_USAGE_ADJUSTMENTS,
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("usage_id", Uuid, nullable=False),
    _time("usage_created_at"),
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
    _time("created_at", default=True),
    Column("chain", Integer, nullable=False),
    Column("seal", BigInteger, nullable=False),
    UniqueConstraint(
        "usage_id", "reason", "price_version", name="usage_adjustments_once"
    ),
    Index("usage_adjustments_usage_created_at", "usage_created_at"),
)


def _hourly(name: str, *dimensions: str) -> Table:
    return Table(
        name,
        metadata,
        Column("hour", DateTime(timezone=True), primary_key=True),
        *(Column(one, Text, primary_key=True) for one in dimensions),
        Column("status_class", SmallInteger, primary_key=True, autoincrement=False),
        *_counts(*USAGE_SUMS),
        *(Column(bucket, Integer, nullable=False) for bucket in LATENCY_BUCKETS),
        *_counts("adjusted_tokens", "adjusted_credits", default=True),
    )


usage_hourly = _hourly(TABLE_USAGE_HOURLY, "user_id", "service", "model", "route")
Index("usage_hourly_user_id", usage_hourly.c.user_id, usage_hourly.c.hour)
usage_hourly_totals = _hourly(TABLE_USAGE_HOURLY_TOTALS, "service", "model", "route")


def _by_user(name: str, time: str) -> Table:
    return Table(
        name,
        metadata,
        Column(time, Date, nullable=False),
        # By which dimension beside the user a row sums, and that dimension's value.
        Column("grain", Text, nullable=False),
        Column("value", Text, nullable=False),
        Column("user_id", Text, nullable=False),
        *_counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
        # Written whole, under a lock of its period: no need for a key.
        Index(f"{name}_grain", "grain", time),
        Index(f"{name}_user_id", "user_id", "grain", time),
    )


def _by_all(name: str, time: str) -> Table:
    return Table(
        name,
        metadata,
        Column(time, Date, primary_key=True),
        *(Column(one, Text, primary_key=True) for one in ("service", "model", "route")),
        Column("status_class", SmallInteger, primary_key=True, autoincrement=False),
        *_counts(*USAGE_SUMS, *LATENCY_BUCKETS, "adjusted_tokens", "adjusted_credits"),
    )


usage_daily = _by_user(TABLE_USAGE_DAILY, "day")
usage_monthly = _by_user(TABLE_USAGE_MONTHLY, "month")
usage_daily_totals = _by_all(TABLE_USAGE_DAILY_TOTALS, "day")
usage_monthly_totals = _by_all(TABLE_USAGE_MONTHLY_TOTALS, "month")

usage_parts = Table(
    TABLE_USAGE_PARTS,
    metadata,
    Column("day", Date, nullable=False),
    Column("minutes", SmallInteger, nullable=False),
    _time("start"),
    Column("grain", Text, nullable=False),
    Column("value", Text, nullable=False),
    *_counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
    Index("usage_parts_day", "day", "minutes"),
    Index("usage_parts_grain", "grain", "minutes", "start"),
)

usage_user_parts = Table(
    TABLE_USAGE_USER_PARTS,
    metadata,
    Column("day", Date, nullable=False),
    Column("minutes", SmallInteger, nullable=False),
    _time("start"),
    Column("user_id", Text, nullable=False),
    *_counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
    Index("usage_user_parts_day", "day", "minutes", "start"),
    Index("usage_user_parts_user_id", "user_id", "minutes", "start"),
)

usage_weekly = Table(
    TABLE_USAGE_WEEKLY,
    metadata,
    Column("week", Date, primary_key=True),
    Column("user_id", Text, primary_key=True),
    *_counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
)

usage_tiers = Table(
    TABLE_USAGE_TIERS,
    metadata,
    Column("period", Text, primary_key=True),
    Column("start", Date, primary_key=True),
    # Rows came since: whoever wants sums takes them from the hours.
    Column("is_stale", Boolean, nullable=False),
    # Grows each time the sums are made.
    Column("version", BigInteger, nullable=False),
    _time("compacted_at", default=True),
    # Of a day: also those of quarters of an hour.
    Column("has_quarters", Boolean, nullable=False, server_default="false"),
)

usage_minutes = Table(
    TABLE_USAGE_MINUTES,
    metadata,
    Column("node", Text, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *_counts("admitted", "recorded", "unsettled", "quarantined", default=True),
    Index("usage_minutes_minute", "minute"),
)

usage_watermarks = Table(
    TABLE_USAGE_WATERMARKS,
    metadata,
    Column("node", Text, primary_key=True),
    _time("complete_through"),
    Column("basis", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("is_closed", Boolean, nullable=False),
    _time("updated_at", default=True),
    # By an operator, as the node could not; null again when it is heard.
    _time("closed_by_hand_at", null=True),
)

usage_archives = Table(
    TABLE_ARCHIVES,
    metadata,
    Column("day", Date, primary_key=True),
    Column("file", Text, nullable=False),
    *_counts("rows", "tokens", "credits"),
    Column("sha256", Text, nullable=False),
    _time("archived_at", default=True),
    _time("dropped_at", null=True),
    _time("restored_at", null=True),
)

usage_report_ids = Table(
    TABLE_REPORT_IDS,
    metadata,
    # A reported call keeps the time that was reported first, however often it comes.
    Column("id", Uuid, primary_key=True),
    _time("created_at"),
)
