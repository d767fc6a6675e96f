"""The nodes that share the database, and a number that tells the holders of a lease apart."""

import sqlalchemy as sa
from alembic import op

from drift_core.metadata.tables import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table and adds the column."""
    op.create_table(
        "nodes",
        sa.Column("id", text(255), nullable=False),
        sa.Column("label", text(255), nullable=False),
        sa.Column("address", text(255), nullable=True),
        sa.Column("version", text(64), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    # An older version that runs beside this one knows no epochs.
    op.add_column("leases", sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"))
