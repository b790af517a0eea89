"""Who read whose usage, for ever; keys of pseudonyms, until they are destroyed."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE audit_log (
            id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at         timestamptz NOT NULL DEFAULT now(),
            actor      text,
            role       text        NOT NULL,
            action     text        NOT NULL,
            subject    text,
            details    jsonb       NOT NULL,
            request_id uuid,
            CONSTRAINT audit_log_details_is_an_object
                CHECK (jsonb_typeof(details) = 'object')
        )
    """)
    op.execute("CREATE INDEX audit_log_at ON audit_log (at, id)")
    op.execute("CREATE INDEX audit_log_actor ON audit_log (actor, id)")
    op.execute("CREATE INDEX audit_log_subject ON audit_log (subject, id)")
    op.execute("""
        CREATE FUNCTION control_refuse_change() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is only added to: % is refused', TG_TABLE_NAME, TG_OP
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION control_refuse_change()
    """)
    op.execute("""
        CREATE TABLE usage_pseudonyms (
            user_id      text        PRIMARY KEY,
            key          bytea,
            created_at   timestamptz NOT NULL DEFAULT now(),
            destroyed_at timestamptz,
            CONSTRAINT usage_pseudonyms_key_is_there_or_destroyed
                CHECK ((key IS NULL) <> (destroyed_at IS NULL)),
            CONSTRAINT usage_pseudonyms_key_is_long CHECK (length(key) = 32)
        )
    """)
    # A destroyed key must not come back, nor its row make place for a new one.
    op.execute("""
        CREATE FUNCTION usage_pseudonyms_refuse_return() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.destroyed_at IS NULL AND NEW.key IS NULL
            THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'a pseudonym is made once and destroyed once'
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER refuse_return BEFORE UPDATE OR DELETE ON usage_pseudonyms
        FOR EACH ROW EXECUTE FUNCTION usage_pseudonyms_refuse_return()
    """)


def downgrade() -> None:
    op.execute("DROP TABLE audit_log")
    op.execute("DROP FUNCTION control_refuse_change()")
    op.execute("DROP TABLE usage_pseudonyms")
    op.execute("DROP FUNCTION usage_pseudonyms_refuse_return()")
