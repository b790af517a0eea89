"""Sums of closed days by hour and quarter of an hour, and of weeks by user.

The first are for days of other time zones, the others to find the largest users. Days
that are summed already lack them: they are stale until the sink has summed them again,
the newest first. Their months stay as they are.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_SUMS = ", ".join(
    f"{name} bigint NOT NULL"
    for name in (
        *("requests", "errors", "tokens", "input_tokens", "output_tokens"),
        *("cached_tokens", "reasoning_tokens", "credits", "duration_ms"),
        *("adjusted_tokens", "adjusted_credits"),
    )
)
_TABLES = "usage_parts, usage_user_parts, usage_weekly"
_GRANTS = {
    "hubgate_reader": f"GRANT SELECT ON {_TABLES} TO hubgate_reader;",
    "hubgate_archiver": f"GRANT SELECT ON {_TABLES} TO hubgate_archiver;",
    "hubgate_writer": f"GRANT SELECT, INSERT, DELETE ON {_TABLES} TO hubgate_writer;",
}
_GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        {grants}
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(
        "CREATE TABLE usage_parts (day date NOT NULL, minutes smallint NOT NULL, "
        "start timestamptz NOT NULL, grain text NOT NULL, value text NOT NULL, "
        f"{_SUMS})"
    )
    op.execute("CREATE INDEX usage_parts_day ON usage_parts (day, minutes)")
    op.execute("CREATE INDEX usage_parts_grain ON usage_parts (grain, minutes, start)")
    op.execute(
        "CREATE TABLE usage_user_parts (day date NOT NULL, minutes smallint NOT NULL, "
        f"start timestamptz NOT NULL, user_id text NOT NULL, {_SUMS})"
    )
    op.execute(
        "CREATE INDEX usage_user_parts_day ON usage_user_parts (day, minutes, start)"
    )
    op.execute(
        "CREATE INDEX usage_user_parts_user_id "
        "ON usage_user_parts (user_id, minutes, start)"
    )
    op.execute(
        "CREATE TABLE usage_weekly (week date NOT NULL, user_id text NOT NULL, "
        f"{_SUMS}, PRIMARY KEY (week, user_id))"
    )
    op.execute("ALTER TABLE usage_tiers DROP CONSTRAINT usage_tiers_period_check")
    op.execute(
        "ALTER TABLE usage_tiers ADD CONSTRAINT usage_tiers_period_check "
        "CHECK (period IN ('day', 'week', 'month'))"
    )
    op.execute(
        "ALTER TABLE usage_tiers ADD has_quarters boolean NOT NULL DEFAULT false"
    )
    op.execute("UPDATE usage_tiers SET is_stale = true WHERE period = 'day'")
    for role, grants in _GRANTS.items():
        op.execute(_GRANT.format(role=role, grants=grants))
