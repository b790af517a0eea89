"""Alembic's entry: runs on the connection that `runtime.migrations.migrate` opened."""

from runtime.migrations import run
from usage_sink.schema import metadata

run(metadata)
