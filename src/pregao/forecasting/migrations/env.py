"""Alembic runs this for each migration, inside the transaction that log.py opens."""

from alembic import context

# A separate version table: MLflow may use alembic's default one in the same database.
context.configure(connection=context.config.attributes["connection"], version_table="forecasts_version")
context.run_migrations()
