"""Makes the table of passes."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "scrub__passes",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("position", sa.String(200)),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("checked", sa.BigInteger, nullable=False),
        sa.Column("bytes_read", sa.BigInteger, nullable=False),
        sa.Column("damaged", sa.BigInteger, nullable=False),
        sa.Column("unreadable", sa.BigInteger, nullable=False),
    )
