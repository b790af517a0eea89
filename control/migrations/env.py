"""Alembic's entry: runs on the connection that `runtime.migrations.migrate` opened."""

from alembic import context

from control.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    target_metadata=metadata,
)
with context.begin_transaction():
    context.run_migrations()
