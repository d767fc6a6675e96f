"""Makes the table of the test of snapshots."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "tally__counts", sa.Column("id", sa.Integer, primary_key=True), sa.Column("number", sa.Integer, nullable=False)
    )
