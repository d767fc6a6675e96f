"""Makes the tables of blobs, uploads, their parts, and garbage."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def text(length: int) -> sa.types.TypeEngine[str]:
    """Is in binary order on PostgreSQL too."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "storage_s3__blobs",
        sa.Column("store", text(255), primary_key=True),
        sa.Column("digest", text(200), primary_key=True),
        sa.Column("key", text(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified", sa.Double, nullable=False),
    )
    op.create_table(
        "storage_s3__uploads",
        sa.Column("id", text(32), primary_key=True),
        sa.Column("store", text(255), nullable=False),
        sa.Column("algorithm", text(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", text(200)),
        sa.Column("tail", text(255)),
        sa.Column("multipart", text(1024)),
        sa.Column("key", text(255)),
        sa.Column("part_size", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("unfenced", sa.Boolean, nullable=False),
        sa.Column("holder", text(32)),
        sa.Column("held_until", sa.Double, nullable=False),
    )
    op.create_table(
        "storage_s3__parts",
        sa.Column("upload", text(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("etag", text(255), nullable=False),
        sa.Column("checksum", text(64)),
    )
    op.create_table(
        "storage_s3__garbage",
        sa.Column("store", text(255), primary_key=True),
        sa.Column("key", text(255), primary_key=True),
        sa.Column("multipart", text(1024)),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("taken_until", sa.Double, nullable=False),
    )
    op.create_index("storage_s3__ix_garbage_store_due", "storage_s3__garbage", ["store", "due"])
