"""Locks that several modules share."""

from threading import Lock

ALEMBIC = Lock()
"""Held while alembic changes tables, MLflow's included: alembic's context is one per process."""
