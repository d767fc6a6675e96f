"""Makes the tables."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Makes keys, grants, spent refresh tokens and the revision."""
    # Pages are in binary order on PostgreSQL, too.
    robot = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
    op.create_table(
        "auth_token__keys",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("private", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "auth_token__grants",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("robot", robot, unique=True),
        sa.Column("parent", sa.String(16)),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("used", sa.Float),
    )
    op.create_index("auth_token__grants_name", "auth_token__grants", ["name", "kind"])
    op.create_index("auth_token__grants_parent", "auth_token__grants", ["parent"])
    op.create_index("auth_token__grants_expires", "auth_token__grants", ["expires"])
    op.create_table(
        "auth_token__spent",
        sa.Column("secret", sa.String(64), primary_key=True),
        sa.Column("grant", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("auth_token__spent_grant", "auth_token__spent", ["grant"])
    revisions = op.create_table(
        "auth_token__revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revisions, [{"id": 1, "counter": 1}])
