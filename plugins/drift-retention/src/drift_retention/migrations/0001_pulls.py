"""Makes the tables of pulls, of how long they are recorded, and of runs."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "retention__pulls",
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("pulled_at", sa.BigInteger, nullable=False),
    )
    op.create_index("retention__ix_pulls_pulled_at", "retention__pulls", ["pulled_at"])
    op.create_table(
        "retention__recording",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_table(
        "retention__runs",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float, nullable=False),
        sa.Column("repositories", sa.BigInteger, nullable=False),
        sa.Column("tags", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
    )
