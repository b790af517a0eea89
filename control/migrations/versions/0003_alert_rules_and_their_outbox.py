"""What is watched, how it stands, and what is still to be told to whom."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE alert_rules (
            id         text        PRIMARY KEY,
            document   jsonb       NOT NULL,
            version    bigint      NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # Apart from its rule: who changes a rule and who evaluates it don't collide.
    op.execute("""
        CREATE TABLE alert_states (
            rule       text        PRIMARY KEY,
            document   jsonb       NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE alert_outbox (
            id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            rule        text        NOT NULL,
            fingerprint text        NOT NULL,
            starts_at   timestamptz NOT NULL,
            status      text        NOT NULL,
            url         text        NOT NULL,
            body        jsonb       NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now(),
            next_at     timestamptz NOT NULL DEFAULT now(),
            attempts    integer     NOT NULL DEFAULT 0,
            last_error  text,
            done_at     timestamptz,
            CONSTRAINT alert_outbox_status_is_known
                CHECK (status IN ('firing', 'resolved')),
            CONSTRAINT alert_outbox_once UNIQUE (fingerprint, starts_at, status)
        )
    """)
    op.execute("""
        CREATE INDEX alert_outbox_waiting ON alert_outbox (rule, id)
        WHERE done_at IS NULL
    """)


def downgrade() -> None:
    op.execute("DROP TABLE alert_outbox")
    op.execute("DROP TABLE alert_states")
    op.execute("DROP TABLE alert_rules")
