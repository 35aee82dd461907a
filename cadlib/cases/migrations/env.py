"""Runs the migrations; Alembic loads this file."""

from alembic import context

from cadlib.cases.schema import metadata

# `upgrade.py` gives a connection in a transaction that holds the lock of the store.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
context.run_migrations()
