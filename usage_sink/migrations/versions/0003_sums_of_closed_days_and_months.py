"""Sums of closed days and months, and an index for pages by time.

The sums are filled in by the sink (`usage_sink/compaction.py`), not here: over a large
ledger that takes minutes.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

_EDGES = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10_000, 30_000, 60_000),
)
_SUMS = " ".join(
    f"{name} bigint NOT NULL,"
    for name in (
        *("requests", "errors", "tokens", "input_tokens", "output_tokens"),
        *("cached_tokens", "reasoning_tokens", "credits", "duration_ms"),
    )
)
_BUCKETS = " ".join(f"ms_{edge} bigint NOT NULL," for edge in (*_EDGES, "more"))
_ADJUSTED = "adjusted_tokens bigint NOT NULL, adjusted_credits bigint NOT NULL"

_PERIODS = (("usage_daily", "day"), ("usage_monthly", "month"))

_TIERS = """
CREATE TABLE usage_tiers (
    period       text        NOT NULL CHECK (period IN ('day', 'month')),
    start        date        NOT NULL,
    is_stale     boolean     NOT NULL,
    version      bigint      NOT NULL,
    compacted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (period, start)
)
"""

_TABLES = ", ".join(
    name for table, _ in _PERIODS for name in (table, f"{table}_totals")
)
_GRANTS = {
    "hubgate_reader": f"GRANT SELECT ON usage_tiers, {_TABLES} TO hubgate_reader;",
    "hubgate_archiver": f"GRANT SELECT ON usage_tiers, {_TABLES} TO hubgate_archiver;",
    # What is derived from other sums is made anew as a whole: no UPDATE of figures.
    "hubgate_writer": f"""
        GRANT SELECT, INSERT, UPDATE ON usage_tiers TO hubgate_writer;
        GRANT SELECT, INSERT, DELETE ON {_TABLES} TO hubgate_writer;
    """,
}
_GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        {grants}
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute("CREATE INDEX usage_logs_created_at_id ON usage_logs (created_at, id)")
    op.execute(_TIERS)
    for table, time in _PERIODS:
        op.execute(
            f"CREATE TABLE {table} ({time} date NOT NULL, grain text NOT NULL, "
            f"value text NOT NULL, user_id text NOT NULL, {_SUMS} {_ADJUSTED})"
        )
        op.execute(f"CREATE INDEX {table}_grain ON {table} (grain, {time})")
        op.execute(f"CREATE INDEX {table}_user_id ON {table} (user_id, grain, {time})")
        op.execute(
            f"CREATE TABLE {table}_totals ({time} date NOT NULL, "
            "service text NOT NULL, model text NOT NULL, route text NOT NULL, "
            f"status_class smallint NOT NULL, {_SUMS} {_BUCKETS} {_ADJUSTED}, "
            f"PRIMARY KEY ({time}, service, model, route, status_class))"
        )
    for role, grants in _GRANTS.items():
        op.execute(_GRANT.format(role=role, grants=grants))
