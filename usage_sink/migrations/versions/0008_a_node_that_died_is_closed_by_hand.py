"""The watermark of a node that died is closed by an operator, and says so.

Only that of one which has said nothing for a minute (`NODE_SILENT_S`): one that lives
would open it again within a second.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

# As its owner: who may execute it can change no other column, and no other node.
_CLOSE = """
CREATE FUNCTION usage_close_node(wanted text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE usage_watermarks SET is_closed = true, closed_by_hand_at = now()
    WHERE node = wanted AND NOT is_closed
        AND updated_at < now() - interval '60 seconds';
    RETURN FOUND;
END $$
"""
# Temporary tables last: a caller's own must not stand for ours.
_SEARCH_PATH = """
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION usage_close_node(text) '
        'SET search_path = %I, pg_temp', current_schema());
END $$
"""
# A group of its own: who may read is not for that reason one who may close.
_OPERATOR = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hubgate_operator') THEN
        CREATE ROLE hubgate_operator NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'hubgate_operator is not made: CREATEROLE is missing';
END $$
"""
_GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hubgate_operator') THEN
        GRANT EXECUTE ON FUNCTION usage_close_node(text) TO hubgate_operator;
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute("ALTER TABLE usage_watermarks ADD closed_by_hand_at timestamptz")
    op.execute(_CLOSE)
    op.execute(_SEARCH_PATH)
    op.execute("REVOKE EXECUTE ON FUNCTION usage_close_node(text) FROM PUBLIC")
    op.execute(_OPERATOR)
    op.execute(_GRANT)
