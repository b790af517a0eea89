"""An index of the rows that are not as they should be: few, and often asked for."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX usage_logs_failed ON usage_logs (created_at, id) "
        "WHERE status >= 400 OR outcome <> 'ok'"
    )
