"""Seals, rollups, adjustments, completeness, archives and roles of their own.

Rows from before are sealed as they are, all under chain 0, seal 0. The SQL is written
out: a migration must not follow later edits. There is no way back.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_EDGES = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10_000, 30_000, 60_000),
)
_BUCKETS = tuple(f"ms_{edge}" for edge in (*_EDGES, "more"))

_ROWS = """
ALTER TABLE usage_logs
    ADD reasoning_tokens integer CHECK (reasoning_tokens >= 0),
    ADD chain integer NOT NULL DEFAULT 0,
    ADD seal  bigint  NOT NULL DEFAULT 0,
    DROP CONSTRAINT usage_logs_outcome_is_known,
    DROP CONSTRAINT usage_logs_source_is_known;
ALTER TABLE usage_logs
    ALTER chain DROP DEFAULT,
    ALTER seal DROP DEFAULT,
    ADD billable boolean NOT NULL GENERATED ALWAYS AS (
        pricing <> 'free' AND outcome NOT IN ('denied', 'limited', 'unsettled')
    ) STORED,
    ADD CONSTRAINT usage_logs_outcome_is_known CHECK (outcome IN (
        'ok', 'client_error', 'denied', 'limited', 'upstream_error', 'aborted',
        'gateway_error', 'unsettled')),
    ADD CONSTRAINT usage_logs_source_is_known CHECK (usage_source IN (
        'provider', 'header', 'reported', 'partial', 'absent'));
"""

_SEALS = """
CREATE TABLE usage_chains (
    chain      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE,
    node       text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE usage_seals (
    chain     integer     NOT NULL REFERENCES usage_chains,
    seal      bigint      NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('usage', 'adjustment')),
    day       date        NOT NULL,
    rows      integer     NOT NULL CHECK (rows > 0),
    digest    bytea       NOT NULL CHECK (length(digest) = 32),
    previous  bytea       NOT NULL CHECK (length(previous) = 32),
    head      bytea       NOT NULL CHECK (length(head) = 32),
    sealed_at timestamptz NOT NULL,
    PRIMARY KEY (chain, seal)
);
CREATE INDEX usage_seals_day ON usage_seals (day);
CREATE TABLE usage_adjustments (
    id               uuid        PRIMARY KEY,
    usage_id         uuid        NOT NULL,
    usage_created_at timestamptz NOT NULL,
    tokens           integer     NOT NULL,
    input_tokens     integer     NOT NULL,
    output_tokens    integer     NOT NULL,
    cached_tokens    integer     NOT NULL,
    reasoning_tokens integer     NOT NULL,
    credits          integer     NOT NULL,
    price_version    text        NOT NULL,
    reason           text        NOT NULL,
    author           text        NOT NULL,
    metadata         jsonb       NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    chain            integer     NOT NULL,
    seal             bigint      NOT NULL,
    CONSTRAINT usage_adjustments_once UNIQUE (usage_id, reason, price_version)
);
CREATE INDEX usage_adjustments_usage_created_at ON usage_adjustments (usage_created_at);
"""

_SUMS = f"""
    service          text   NOT NULL,
    model            text   NOT NULL,
    route            text   NOT NULL,
    status_class     smallint NOT NULL,
    requests         bigint NOT NULL,
    errors           bigint NOT NULL,
    tokens           bigint NOT NULL,
    input_tokens     bigint NOT NULL,
    output_tokens    bigint NOT NULL,
    cached_tokens    bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    credits          bigint NOT NULL,
    duration_ms      bigint NOT NULL,
    {" ".join(f"{name} integer NOT NULL," for name in _BUCKETS)}
    adjusted_tokens  bigint NOT NULL DEFAULT 0,
    adjusted_credits bigint NOT NULL DEFAULT 0,
"""

_ROLLUPS = f"""
CREATE TABLE usage_hourly (
    hour         timestamptz NOT NULL,
    user_id      text        NOT NULL,
    {_SUMS}
    PRIMARY KEY (hour, user_id, service, model, route, status_class)
) WITH (fillfactor = 70);
CREATE INDEX usage_hourly_user_id ON usage_hourly (user_id, hour);
CREATE TABLE usage_hourly_totals (
    hour         timestamptz NOT NULL,
    {_SUMS}
    PRIMARY KEY (hour, service, model, route, status_class)
) WITH (fillfactor = 70);
CREATE TABLE usage_minutes (
    node        text        NOT NULL,
    minute      timestamptz NOT NULL,
    admitted    bigint      NOT NULL DEFAULT 0,
    recorded    bigint      NOT NULL DEFAULT 0,
    unsettled   bigint      NOT NULL DEFAULT 0,
    quarantined bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (node, minute)
) WITH (fillfactor = 70);
CREATE INDEX usage_minutes_minute ON usage_minutes (minute);
CREATE TABLE usage_watermarks (
    node             text        PRIMARY KEY,
    complete_through timestamptz NOT NULL,
    basis            text        NOT NULL CHECK (basis IN ('file', 'stream')),
    pending          integer     NOT NULL,
    is_closed        boolean     NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE usage_archives (
    day         date        PRIMARY KEY,
    file        text        NOT NULL,
    rows        bigint      NOT NULL,
    tokens      bigint      NOT NULL,
    credits     bigint      NOT NULL,
    sha256      text        NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    dropped_at  timestamptz,
    restored_at timestamptz
);
CREATE TABLE usage_report_ids (
    id         uuid        PRIMARY KEY,
    created_at timestamptz NOT NULL
);
"""

_ONCE = """
CREATE FUNCTION usage_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is written once: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_seals
    FOR EACH STATEMENT EXECUTE FUNCTION usage_refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_chains
    FOR EACH STATEMENT EXECUTE FUNCTION usage_refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION usage_refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_report_ids
    FOR EACH STATEMENT EXECUTE FUNCTION usage_refuse_change();
"""

_SUM = f"""
    service, coalesce(model, ''), coalesce(route, ''), status / 100,
    count(*), count(*) FILTER (WHERE status >= 400),
    sum(tokens), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
    coalesce(sum(cached_tokens), 0), 0, sum(credits), sum(duration_ms),
    {
    ", ".join(
        f"count(*) FILTER (WHERE duration_ms > {low} AND duration_ms <= {high})"
        for low, high in zip((-1, *_EDGES), (*_EDGES, 2**31 - 1), strict=True)
    )
}
"""

# What rows there are is sealed as `seals.py` does it.
_BEFORE = f"""
INSERT INTO usage_chains (chain, name, node) OVERRIDING SYSTEM VALUE
VALUES (0, 'before-seals', 'migration');
INSERT INTO usage_seals
    (chain, seal, kind, day, rows, digest, previous, head, sealed_at)
SELECT 0, 0, 'usage', '1970-01-01', rows, digest, sha256('before-seals'),
    sha256(sha256('before-seals') || convert_to(concat_ws('|',
        0, 'usage', '1970-01-01', rows, encode(digest, 'hex'),
        (extract(epoch FROM now()) * 1000000)::bigint), 'UTF8')),
    now()
FROM (
    SELECT count(*) AS rows, sha256(string_agg(sha256(convert_to(ROW(
        id, user_id, service, model, tokens, credits, metadata,
        (extract(epoch FROM created_at) * 1000000)::bigint, route, method, status,
        outcome, duration_ms, bytes_received, bytes_sent, input_tokens, output_tokens,
        cached_tokens, reasoning_tokens, usage_source, pricing, price_version, role,
        node, (extract(epoch FROM recorded_at) * 1000000)::bigint, chain, seal
    )::text, 'UTF8')), '' ORDER BY id, created_at)) AS digest
    FROM usage_logs HAVING count(*) > 0
) AS everything;
INSERT INTO usage_hourly
SELECT date_bin('1 hour', created_at, '2000-01-01+00'), coalesce(user_id, ''), {_SUM}
FROM usage_logs GROUP BY 1, 2, 3, 4, 5, 6;
INSERT INTO usage_hourly_totals
SELECT date_bin('1 hour', created_at, '2000-01-01+00'), {_SUM}
FROM usage_logs GROUP BY 1, 2, 3, 4, 5;
INSERT INTO usage_minutes (node, minute, recorded)
SELECT node, date_bin('1 minute', created_at, '2000-01-01+00'), count(*)
FROM usage_logs GROUP BY 1, 2;
"""

# An owner's functions do for the services what needs the owner: nothing else.
_FUNCTIONS = """
ALTER FUNCTION usage_logs_make_partition(date) SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION usage_logs_make_partition(date) FROM PUBLIC;
CREATE FUNCTION usage_logs_drop_archived(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name    text := 'usage_logs_' || to_char(wanted, 'YYYYMMDD');
    noted   bigint;
    held    bigint;
    whole   bigint;
BEGIN
    SELECT rows INTO noted FROM usage_archives WHERE day = wanted;
    IF noted IS NULL THEN
        RAISE EXCEPTION '% is not archived', wanted
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF wanted >= (now() AT TIME ZONE 'UTC')::date - 1 THEN
        RAISE EXCEPTION '% is not closed', wanted
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF to_regclass(name) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    EXECUTE format('SELECT count(*) FROM %I', name) INTO held;
    SELECT count(*) INTO whole FROM usage_logs
    WHERE created_at >= wanted::timestamp AT TIME ZONE 'UTC'
        AND created_at < (wanted + 1)::timestamp AT TIME ZONE 'UTC';
    IF held <> noted OR whole <> noted THEN
        RAISE EXCEPTION '% has % rows, its archive has %', wanted, whole, noted
            USING ERRCODE = 'restrict_violation';
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    UPDATE usage_archives SET dropped_at = now(), restored_at = NULL
    WHERE day = wanted;
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION usage_logs_drop_archived(date) FROM PUBLIC;
"""

# Temporary tables last: a caller's own must not stand for ours.
_SEARCH_PATH = """
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION usage_logs_make_partition(date) '
        'SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION usage_logs_drop_archived(date) '
        'SET search_path = %I, pg_temp', current_schema());
END $$;
"""

_ROLES = ("hubgate_writer", "hubgate_reader", "hubgate_archiver")

# Where the owner may not make roles, everything stays with the owner alone.
_MAKE_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE '{role} is not made: CREATEROLE is missing';
END $$;
"""

_GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        {grants}
    END IF;
END $$;
"""

_TABLES = (
    "usage_logs, usage_quarantine, usage_chains, usage_seals, usage_adjustments, "
    "usage_hourly, usage_hourly_totals, usage_minutes, usage_watermarks, "
    "usage_archives, usage_report_ids"
)
_GRANTS = {
    "hubgate_reader": f"GRANT SELECT ON {_TABLES} TO hubgate_reader;",
    "hubgate_writer": f"""
        GRANT SELECT ON {_TABLES} TO hubgate_writer;
        GRANT INSERT ON usage_logs, usage_quarantine, usage_chains, usage_seals,
            usage_adjustments, usage_hourly, usage_hourly_totals, usage_minutes,
            usage_watermarks, usage_report_ids TO hubgate_writer;
        GRANT UPDATE ON usage_hourly, usage_hourly_totals, usage_minutes,
            usage_watermarks TO hubgate_writer;
        GRANT EXECUTE ON FUNCTION usage_logs_make_partition(date) TO hubgate_writer;
    """,
    "hubgate_archiver": f"""
        GRANT SELECT ON {_TABLES} TO hubgate_archiver;
        GRANT INSERT, UPDATE ON usage_archives TO hubgate_archiver;
        GRANT EXECUTE ON FUNCTION usage_logs_drop_archived(date) TO hubgate_archiver;
    """,
}


def upgrade() -> None:
    for script in (_ROWS, _SEALS, _ROLLUPS, _BEFORE, _ONCE, _FUNCTIONS, _SEARCH_PATH):
        for statement in _statements(script):
            op.execute(statement)
    for role in _ROLES:
        op.execute(_MAKE_ROLE.format(role=role))
        op.execute(_GRANT.format(role=role, grants=_GRANTS[role]))


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
