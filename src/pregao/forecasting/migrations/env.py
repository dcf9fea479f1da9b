"""Alembic runs this for each change of the tables, inside the transaction that log.py opens."""

from alembic import context

# A table of its own: MLflow, which may live in the same database, has alembic's usual one.
context.configure(connection=context.config.attributes["connection"], version_table="forecasts_version")
context.run_migrations()
