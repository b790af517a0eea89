"""Alembic's migrations of the tables that this service owns."""
