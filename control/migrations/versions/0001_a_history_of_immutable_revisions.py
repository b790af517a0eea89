"""Every document that was ever applied, kept as it was; only its fate is noted."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE config_revisions (
            rev        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            document   jsonb       NOT NULL,
            author     text        NOT NULL,
            comment    text        NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            status     text        NOT NULL,
            reason     text,
            CONSTRAINT config_revisions_status_is_known
                CHECK (status IN ('pending', 'active', 'rejected')),
            CONSTRAINT config_revisions_document_is_an_object
                CHECK (jsonb_typeof(document) = 'object')
        )
    """)
    op.execute("""
        CREATE INDEX config_revisions_active ON config_revisions (rev)
        WHERE status = 'active'
    """)
    op.execute("CREATE INDEX config_revisions_author ON config_revisions (author, rev)")
    op.execute("""
        CREATE FUNCTION config_revisions_refuse_change() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.status = 'pending'
                AND (NEW.rev, NEW.document, NEW.author, NEW.comment, NEW.created_at)
                  = (OLD.rev, OLD.document, OLD.author, OLD.comment, OLD.created_at)
            THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'config_revisions is a history: % is refused', TG_OP
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON config_revisions
        FOR EACH ROW EXECUTE FUNCTION config_revisions_refuse_change()
    """)


def downgrade() -> None:
    op.execute("DROP TABLE config_revisions")
    op.execute("DROP FUNCTION config_revisions_refuse_change")
