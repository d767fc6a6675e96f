"""Makes the tables: one for each kind of entity, and the revision of them all."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Makes empty tables, at revision 0."""
    for kind in ("organizations", "teams", "users", "roles"):
        op.create_table(
            f"rbac__{kind}",
            sa.Column("id", sa.String(512), primary_key=True),
            sa.Column("document", sa.Text, nullable=False),
        )
    table = op.create_table(
        "rbac__revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(table, [{"id": 1, "revision": 0}])
