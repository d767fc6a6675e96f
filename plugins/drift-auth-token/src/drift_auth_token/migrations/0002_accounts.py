"""Keeps of a grant which authenticator knows its owner."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Adds the column; of personal access tokens that there are, and what was made by them, only the name is known."""
    op.add_column("auth_token__grants", sa.Column("account", sa.String(255)))
    op.execute("UPDATE auth_token__grants SET account = source WHERE kind IN ('login', 'docker') AND source <> 'token'")
