"""A ledger partitioned by day, whose rows the database itself refuses to change.

The SQL is written out: a migration must not follow later edits of `schema.py`.
There is no way back: it would drop the ledger.
"""

from alembic import op

revision = "0001"
down_revision = None

_USAGE_LOGS = """
CREATE TABLE usage_logs (
    id             uuid        NOT NULL,
    user_id        text,
    service        text        NOT NULL,
    model          text,
    tokens         integer     NOT NULL,
    credits        integer     NOT NULL,
    metadata       jsonb       NOT NULL,
    created_at     timestamptz NOT NULL,
    route          text,
    method         text,
    status         smallint    NOT NULL,
    outcome        text        NOT NULL,
    duration_ms    integer     NOT NULL,
    bytes_received bigint      NOT NULL,
    bytes_sent     bigint      NOT NULL,
    input_tokens   integer,
    output_tokens  integer,
    cached_tokens  integer,
    usage_source   text        NOT NULL,
    pricing        text        NOT NULL,
    price_version  text,
    role           text,
    node           text        NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at),
    CONSTRAINT usage_logs_amounts_are_not_negative CHECK (
        tokens >= 0 AND credits >= 0 AND duration_ms >= 0
        AND bytes_received >= 0 AND bytes_sent >= 0),
    CONSTRAINT usage_logs_tokens_are_not_negative CHECK (
        input_tokens >= 0 AND output_tokens >= 0 AND cached_tokens >= 0),
    CONSTRAINT usage_logs_status_is_http CHECK (status BETWEEN 0 AND 599),
    CONSTRAINT usage_logs_outcome_is_known CHECK (outcome IN (
        'ok', 'client_error', 'denied', 'limited', 'upstream_error', 'aborted',
        'gateway_error')),
    CONSTRAINT usage_logs_source_is_known CHECK (usage_source IN (
        'provider', 'header', 'partial', 'absent')),
    CONSTRAINT usage_logs_pricing_is_known CHECK (pricing IN (
        'priced', 'reported', 'unpriced', 'free')),
    CONSTRAINT usage_logs_metadata_is_an_object CHECK (
        jsonb_typeof(metadata) = 'object')
) PARTITION BY RANGE (created_at);
CREATE INDEX usage_logs_user_id_created_at ON usage_logs (user_id, created_at);
CREATE INDEX usage_logs_service_created_at ON usage_logs (service, created_at);
CREATE INDEX usage_logs_model_created_at ON usage_logs (model, created_at);
CREATE INDEX usage_logs_user_id_service ON usage_logs (user_id, service);
"""

_QUARANTINE = """
CREATE TABLE usage_quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea       NOT NULL UNIQUE,
    received_at timestamptz NOT NULL DEFAULT now(),
    reason      text        NOT NULL,
    attributes  jsonb       NOT NULL
);
"""

_REFUSE = """
CREATE FUNCTION usage_logs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'usage_logs is written once: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'Corrections are rows of their own; old days are dropped as '
                     'whole partitions.';
END $$;
CREATE TRIGGER refuse_change_of_a_row BEFORE UPDATE OR DELETE ON usage_logs
    FOR EACH ROW EXECUTE FUNCTION usage_logs_refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_logs
    FOR EACH STATEMENT EXECUTE FUNCTION usage_logs_refuse_change();
"""

# Row triggers are inherited by partitions, TRUNCATE triggers are not.
_PARTITIONS = """
CREATE TABLE usage_logs_default PARTITION OF usage_logs DEFAULT;
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON usage_logs_default
    FOR EACH STATEMENT EXECUTE FUNCTION usage_logs_refuse_change();
CREATE FUNCTION usage_logs_make_partition(day date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    name text := 'usage_logs_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF usage_logs FOR VALUES FROM (%L) TO (%L)',
        name,
        day::timestamp AT TIME ZONE 'UTC',
        (day + 1)::timestamp AT TIME ZONE 'UTC');
    EXECUTE format(
        'CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION usage_logs_refuse_change()', name);
    RETURN true;
END $$;
COMMENT ON FUNCTION usage_logs_make_partition IS
    'Makes the partition of one UTC day; false when it is there already';
"""


def upgrade() -> None:
    for script in (_USAGE_LOGS, _QUARANTINE, _REFUSE, _PARTITIONS):
        for statement in _statements(script):
            op.execute(statement)


def _statements(script: str) -> list[str]:
    """The driver takes one statement at a time; function bodies are kept whole."""
    statements, current, is_body = [], "", False
    for line in script.strip().splitlines():
        current += line + "\n"
        is_body ^= line.count("$$") % 2 == 1
        if line.endswith(";") and not is_body:
            statements.append(current)
            current = ""
    return statements
