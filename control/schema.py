"""Control's table, as the newest migration leaves it."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from runtime.contracts import TABLE_CONFIG_REVISIONS

metadata: Final = MetaData()

config_revisions: Final = Table(
    TABLE_CONFIG_REVISIONS,
    metadata,
    Column("rev", BigInteger, Identity(always=True), primary_key=True),
    Column("document", JSONB, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Index("config_revisions_active", "rev", postgresql_where=text("status = 'active'")),
    Index("config_revisions_author", "author", "rev"),
)
