"""Makes the tables of records, of the ends of their chain, and of sinks."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Creates the tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit__records",
        sa.Column("sequence", row_id, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("event_type", sa.String(1024), nullable=False),
        sa.Column("severity", sa.SmallInteger, nullable=False),
        sa.Column("success", sa.Boolean, nullable=False),
        sa.Column("username", sa.String(1024)),
        sa.Column("organization", sa.String(1024)),
        sa.Column("resource_type", sa.String(1024), nullable=False),
        sa.Column("resource_id", sa.String(1024), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("previous", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    op.create_index("audit__ix_records_at", "audit__records", ["at"])
    for column in ("username", "organization", "resource_id"):
        op.create_index(f"audit__ix_records_{column}_at", "audit__records", [column, "at"])
    op.create_table(
        "audit__ends",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("seal", sa.LargeBinary(32), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
    )
    op.create_table(
        "audit__sinks",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(255)),
        sa.Column("held_until", sa.BigInteger, nullable=False),
    )
