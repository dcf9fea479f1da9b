"""An index of the forecasts whose outcome is known, for their scores by stock, version and step."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KNOWN = sa.text("outcome IS NOT NULL")


def upgrade() -> None:
    """Create the index."""
    columns = ["stock", "model", "version", "step"]
    op.create_index("forecasts_scored", "forecasts", columns, sqlite_where=KNOWN, postgresql_where=KNOWN)


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("forecasts_scored", "forecasts")
