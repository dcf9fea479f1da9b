"""The tables of forecast_log.py and how they came to be, for alembic."""

from threading import Lock

ALEMBIC = Lock()
"""Held by whoever lets alembic change tables, MLflow too: whose tables, is one thing for all threads of a process."""
