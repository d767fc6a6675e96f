"""Makes the table of names that were taken from somebody."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Runs once, before the server starts."""
    name = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
    op.create_table(
        "auth_basic__removed",
        sa.Column("name", name, primary_key=True),
        sa.Column("removed_at", sa.Float, nullable=False),
    )
