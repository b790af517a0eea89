"""The tables of what is made from the rows: sums, and how complete they are."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

from runtime.contracts import (
    LATENCY_BUCKETS,
    TABLE_USAGE_DAILY,
    TABLE_USAGE_DAILY_TOTALS,
    TABLE_USAGE_HOURLY,
    TABLE_USAGE_HOURLY_TOTALS,
    TABLE_USAGE_MINUTES,
    TABLE_USAGE_MONTHLY,
    TABLE_USAGE_MONTHLY_TOTALS,
    TABLE_USAGE_PARTS,
    TABLE_USAGE_TIERS,
    TABLE_USAGE_USER_PARTS,
    TABLE_USAGE_WATERMARKS,
    TABLE_USAGE_WEEKLY,
    USAGE_SUMS,
)
from usage_sink.schema_columns import counts, instant

metadata = MetaData()


def _hourly(name: str, *dimensions: str) -> Table:
    return Table(
        name,
        metadata,
        Column("hour", DateTime(timezone=True), primary_key=True),
        *(Column(one, Text, primary_key=True) for one in dimensions),
        Column("status_class", SmallInteger, primary_key=True, autoincrement=False),
        *counts(*USAGE_SUMS),
        *(Column(bucket, Integer, nullable=False) for bucket in LATENCY_BUCKETS),
        *counts("adjusted_tokens", "adjusted_credits", default=True),
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
        *counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
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
        *counts(*USAGE_SUMS, *LATENCY_BUCKETS, "adjusted_tokens", "adjusted_credits"),
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
    instant("start"),
    Column("grain", Text, nullable=False),
    Column("value", Text, nullable=False),
    *counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
    Index("usage_parts_day", "day", "minutes"),
    Index("usage_parts_grain", "grain", "minutes", "start"),
)

usage_user_parts = Table(
    TABLE_USAGE_USER_PARTS,
    metadata,
    Column("day", Date, nullable=False),
    Column("minutes", SmallInteger, nullable=False),
    instant("start"),
    Column("user_id", Text, nullable=False),
    *counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
    Index("usage_user_parts_day", "day", "minutes", "start"),
    Index("usage_user_parts_user_id", "user_id", "minutes", "start"),
)

usage_weekly = Table(
    TABLE_USAGE_WEEKLY,
    metadata,
    Column("week", Date, primary_key=True),
    Column("user_id", Text, primary_key=True),
    *counts(*USAGE_SUMS, "adjusted_tokens", "adjusted_credits"),
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
    instant("compacted_at", default=True),
    # Of a day: also those of quarters of an hour.
    Column("has_quarters", Boolean, nullable=False, server_default="false"),
)

usage_minutes = Table(
    TABLE_USAGE_MINUTES,
    metadata,
    Column("node", Text, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *counts("admitted", "recorded", "unsettled", "quarantined", default=True),
    Index("usage_minutes_minute", "minute"),
)

usage_watermarks = Table(
    TABLE_USAGE_WATERMARKS,
    metadata,
    Column("node", Text, primary_key=True),
    instant("complete_through"),
    Column("basis", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("is_closed", Boolean, nullable=False),
    instant("updated_at", default=True),
    # By an operator, as the node could not; null again when it is heard.
    instant("closed_by_hand_at", null=True),
)
