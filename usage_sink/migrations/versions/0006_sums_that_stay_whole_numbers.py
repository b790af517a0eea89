"""Sums of bigint that are bigint: PostgreSQL's own are numeric, twice as slow.

An answer by hour has thousands of groups of a few rows each. More than bigint can hold
is an error here, too.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(
        "CREATE AGGREGATE usage_sum (bigint) "
        "(SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE)"
    )
