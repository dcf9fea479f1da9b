"""The table of forecasts and their outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table: one row per forecast and step."""
    op.create_table(
        "forecasts",
        sa.Column("stock", sa.String(12), primary_key=True),
        sa.Column("model", sa.String(12), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("as_of", sa.Date, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("made_at", sa.String(32), nullable=False),
        sa.Column("price", sa.String(12), nullable=False),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("date", sa.Date, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("close", "lower_80", "upper_80")),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("lower_90", "upper_90")),
        sa.Column("outcome", sa.Double),
        sa.Column("settled", sa.Boolean, nullable=False),
    )
    op.create_index("forecasts_to_settle", "forecasts", ["settled", "date"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("forecasts")
