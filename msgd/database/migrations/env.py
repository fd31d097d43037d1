"""Alembic's entry: runs the migrations on the connection that ``msgd.database.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from msgd.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional too once the driver does not interfere, and its tables are altered by rebuilding.
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
