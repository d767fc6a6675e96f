"""Makes the tables of what the console shows, and of sessions."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def sorted_text(length: int) -> sa.String:
    """Returns the type of a text that is compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "ui__repositories",
        sa.Column("name", sorted_text(255), primary_key=True),
        sa.Column("images", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("pulls", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("stale", sa.Boolean, nullable=False),
        sa.Column("event", sa.BigInteger, nullable=False),
    )
    op.create_index("ui__ix_repositories_updated_at", "ui__repositories", ["updated_at", "name"])
    op.create_index("ui__ix_repositories_size", "ui__repositories", ["size", "name"])
    op.create_index("ui__ix_repositories_pulls", "ui__repositories", ["pulls", "name"])
    op.create_index("ui__ix_repositories_stale", "ui__repositories", ["stale", "name"])
    op.create_table(
        "ui__images",
        sa.Column("repository", sorted_text(255), primary_key=True),
        sa.Column("tag", sorted_text(128), primary_key=True),
        sa.Column("digest", sorted_text(160), nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("platforms", sa.String(500), nullable=False),
        sa.Column("pushed_at", sa.Float, nullable=False),
        sa.Column("pushed_by", sa.String(255), nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("pulls", sa.BigInteger, nullable=False),
    )
    op.create_index("ui__ix_images_digest", "ui__images", ["digest"])
    op.create_index("ui__ix_images_tag", "ui__images", ["tag", "repository"])
    op.create_index("ui__ix_images_size", "ui__images", ["size"])
    op.create_index("ui__ix_images_pushed_at", "ui__images", ["pushed_at"])
    op.create_index("ui__ix_images_repository", "ui__images", ["repository", "pushed_at", "tag"])
    op.create_index("ui__ix_images_verified", "ui__images", ["verified", "pushed_at"])
    op.create_table(
        "ui__labels",
        sa.Column("repository", sorted_text(255), primary_key=True),
        sa.Column("tag", sorted_text(128), primary_key=True),
        sa.Column("key", sorted_text(255), primary_key=True),
        sa.Column("value", sorted_text(500), nullable=False),
    )
    op.create_index("ui__ix_labels_key", "ui__labels", ["key", "value"])
    op.create_table(
        "ui__terms",
        sa.Column("term", sorted_text(255), primary_key=True),
        sa.Column("repository", sorted_text(255), primary_key=True),
    )
    op.create_index("ui__ix_terms_repository", "ui__terms", ["repository"])
    op.create_table(
        "ui__grams",
        sa.Column("gram", sorted_text(3), primary_key=True),
        sa.Column("term", sorted_text(255), primary_key=True),
    )
    op.create_table(
        "ui__days",
        sa.Column("repository", sorted_text(255), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("pulls", sa.BigInteger, nullable=False),
        sa.Column("pushes", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ui__totals",
        sa.Column("name", sa.String(8), primary_key=True),
        sa.Column("repositories", sa.BigInteger, nullable=False),
        sa.Column("images", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("pulls", sa.BigInteger, nullable=False),
        sa.Column("compared_at", sa.Float, nullable=False),
    )
    op.create_table(
        "ui__sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float, nullable=False),
    )
    op.create_index("ui__ix_sessions_name", "ui__sessions", ["name", "created_at"])
    op.create_index("ui__ix_sessions_used_at", "ui__sessions", ["used_at"])
