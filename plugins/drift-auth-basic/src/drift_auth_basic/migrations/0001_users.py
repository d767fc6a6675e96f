"""Makes the table of users, and a counter of its changes."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Runs once, before the server starts."""
    # In binary order on PostgreSQL, too.
    name = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
    op.create_table(
        "auth_basic__users",
        sa.Column("name", name, primary_key=True),
        sa.Column("hashed", sa.String(255), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("last_login_at", sa.Float),
    )
    counters = op.create_table("auth_basic__revision", sa.Column("counter", sa.BigInteger, nullable=False))
    op.bulk_insert(counters, [{"counter": 0}])
