"""Makes the tables of usage, of the changes that it does not have yet, and of complete counts."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Creates the tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "quota__deltas",
        sa.Column("id", row_id, primary_key=True),
        sa.Column("organization", sa.String(255), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("quota__ix_deltas_organization_repository", "quota__deltas", ["organization", "repository"])
    op.create_table(
        "quota__usage",
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("organization", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("counted_at", sa.Float, nullable=False),
    )
    op.create_index("quota__ix_usage_bytes", "quota__usage", ["bytes"])
    op.create_index("quota__ix_usage_counted_at", "quota__usage", ["counted_at"])
    op.create_table(
        "quota__organizations",
        sa.Column("organization", sa.String(255), primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("quota__ix_organizations_bytes", "quota__organizations", ["bytes"])
    op.create_table(
        "quota__counts",
        sa.Column("id", row_id, primary_key=True),
        sa.Column("completed_at", sa.Float, nullable=False),
    )
