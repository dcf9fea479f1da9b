"""The tables of forecast_log.py and how they came to be, for alembic."""
