"""Makes the table of what targets still have to be told."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "webhooks__deliveries",
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("event_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("added_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float),
        sa.Column("tried_at", sa.Float),
        sa.Column("aside_at", sa.Float),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_index("webhooks__ix_deliveries_due", "webhooks__deliveries", ["target", "due_at", "event_id"])
    op.create_index("webhooks__ix_deliveries_tried", "webhooks__deliveries", ["target", "tried_at"])
    op.create_index("webhooks__ix_deliveries_aside", "webhooks__deliveries", ["aside_at"])
    op.create_index("webhooks__ix_deliveries_added", "webhooks__deliveries", ["added_at"])
