"""Rows without a model, as most are, are in an index less.

The new index is built before the old one goes: rows can be read meanwhile, and those
to be written wait in the spools.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX usage_logs_of_model ON usage_logs (model, created_at) "
        "WHERE model IS NOT NULL"
    )
    op.execute("DROP INDEX usage_logs_model_created_at")
    op.execute("ALTER INDEX usage_logs_of_model RENAME TO usage_logs_model_created_at")
