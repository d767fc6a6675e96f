"""Makes the table of layers, by which images are found; those that are known are looked at again."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def sorted_text(length: int) -> sa.String:
    """Returns the type of a text that is compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the table, and has everything compared with the registry."""
    op.create_table(
        "ui__layers",
        sa.Column("digest", sorted_text(160), primary_key=True),
        sa.Column("repository", sorted_text(255), primary_key=True),
        sa.Column("tag", sorted_text(128), primary_key=True),
    )
    op.create_index("ui__ix_layers_repository", "ui__layers", ["repository", "tag"])
    op.add_column("ui__images", sa.Column("layered", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE ui__totals SET compared_at = 0")
