"""Alembic's migrations of the forecast log's tables."""
