"""Makes the tables of packed forms, of blobs that gain nothing, and of passes."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

DIGEST = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "storage_packed__forms",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("digest", DIGEST, nullable=False, index=True),
        sa.Column("packed", DIGEST, index=True),
        sa.Column("upload", sa.Text),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified", sa.Float, nullable=False),
        sa.Column("algorithm", sa.String(10), nullable=False),
        sa.Column("frame_size", sa.Integer, nullable=False),
        sa.Column("packed_size", sa.BigInteger, nullable=False),
        sa.Column("original_left", sa.Boolean, nullable=False),
        sa.Column("pushed", sa.Boolean, nullable=False),
        sa.Index("ix_storage_packed__forms_due", "state", "original_left", "changed_at"),
    )
    op.create_table(
        "storage_packed__skipped",
        sa.Column("digest", DIGEST, primary_key=True),
        sa.Column("reason", sa.String(20), nullable=False),
        sa.Column("recipe", sa.String(100), nullable=False),
    )
    op.create_table(
        "storage_packed__passes",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("position", sa.String(200)),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
