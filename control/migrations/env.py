"""Alembic's entry: runs on the connection that `runtime.migrations.migrate` opened."""

from control.schema import metadata
from runtime.migrations import run

run(metadata)
