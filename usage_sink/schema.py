"""The ledger's tables, as the newest migration leaves them.

For queries and for the test that compares them with the migrated database; what
SQLAlchemy can't say (partitions, triggers) is in `migrations/`.
"""

from sqlalchemy import MetaData

from usage_sink import schema_rows, schema_sums

metadata = MetaData()
for part in (schema_rows.metadata, schema_sums.metadata):
    for table in part.tables.values():
        table.to_metadata(metadata)
