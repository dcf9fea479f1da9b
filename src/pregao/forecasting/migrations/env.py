"""What alembic runs for each change of the tables: inside the transaction that forecast_log.py has begun."""

from alembic import context

# A table of its own: MLflow, which may live in the same database, has alembic's usual one.
context.configure(connection=context.config.attributes["connection"], version_table="forecasts_version")
context.run_migrations()
