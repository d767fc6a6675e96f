"""Makes the tables of profiles and plugins, and the indexes by which words in them are found."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SEARCHED = ("text", "tags", "games", "vendor", "author_text")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "bolt__entries",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("made", sa.Integer, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("games", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("author_text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("downloads", sa.BigInteger, nullable=False),
        sa.Column("rating", sa.Float, nullable=False),
        sa.Column("rating_sum", sa.Float, nullable=False),
        sa.Column("rating_count", sa.Integer, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
    )
    op.create_index("bolt__ix_entries_kind_name", "bolt__entries", ["kind", "name"], unique=True)
    op.create_index("bolt__ix_entries_listed_name", "bolt__entries", ["kind", "listed", "name"])
    op.create_index("bolt__ix_entries_created_at", "bolt__entries", ["kind", "listed", "created_at", "id"])
    op.create_index("bolt__ix_entries_updated_at", "bolt__entries", ["kind", "listed", "updated_at", "id"])
    op.create_index("bolt__ix_entries_downloads", "bolt__entries", ["kind", "listed", "downloads", "id"])
    op.create_index("bolt__ix_entries_rating", "bolt__entries", ["kind", "listed", "rating", "id"])
    op.create_index("bolt__ix_entries_score", "bolt__entries", ["kind", "listed", "score", "id"])
    op.create_table(
        "bolt__versions",
        sa.Column("entry", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("mirror", sa.Text),
    )
    op.create_index("bolt__ix_versions_entry_version", "bolt__versions", ["entry", "version"], unique=True)
    op.create_index("bolt__ix_versions_pending", "bolt__versions", ["pending", "created_at"])
    op.create_table(
        "bolt__parts",
        sa.Column("entry", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("platform", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("config_digest", sa.String(200), nullable=False),
        sa.Column("config_size", sa.BigInteger, nullable=False),
        sa.Column("manifest_digest", sa.String(200), nullable=False),
        sa.Column("manifest_size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bolt__pulls",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("entry", ROW_ID, nullable=False),
        sa.Column("hour", sa.Integer, nullable=False),
    )
    op.create_index("bolt__ix_pulls_entry", "bolt__pulls", ["entry"])
    op.create_table(
        "bolt__hours",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("downloads", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bolt__ratings",
        sa.Column("entry", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("rater", sa.String(255), primary_key=True),
        sa.Column("rating", sa.Float, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("rated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "bolt__users",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
    )
    op.create_index("bolt__ix_users_day", "bolt__users", ["day"])
    op.create_table(
        "bolt__categories",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False),
    )
    op.create_index("bolt__ix_categories_entries", "bolt__categories", ["kind", "entries"])
    op.create_table(
        "bolt__totals",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bolt__packages",
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("proton", sa.Boolean, nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("vendors", sa.String(64), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("tagged_at", sa.Float, nullable=False),
    )
    op.create_index("bolt__ix_packages_tagged_at", "bolt__packages", ["tagged_at"])
    op.create_index("bolt__ix_packages_repository", "bolt__packages", ["repository", "tagged_at"])
    if op.get_bind().dialect.name == "postgresql":
        _index_in_postgresql()
    else:
        _index_in_sqlite()


def _index_in_postgresql() -> None:
    """PostgreSQL, "pg_trgm": an extension that the owner of a database may add."""
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    where = "SELECT nspname FROM pg_extension JOIN pg_namespace ON extnamespace = pg_namespace.oid"
    schema = op.get_bind().execute(sa.text(f"{where} WHERE extname = 'pg_trgm'")).scalar_one()
    for column in SEARCHED:
        operators = {f"{column}": f'"{schema}".gin_trgm_ops'}
        op.create_index(
            f"bolt__ix_entries_{column}_trgm",
            "bolt__entries",
            [column],
            postgresql_using="gin",
            postgresql_ops=operators,
        )


def _index_in_sqlite() -> None:
    """SQLite, "FTS5", the trigram tokenizer: what is indexed is in lower case already."""
    columns = ", ".join(SEARCHED)
    for kind in ("profile", "plugin"):
        op.execute(
            f"CREATE VIRTUAL TABLE bolt__{kind}_words USING fts5({columns}, tokenize='trigram case_sensitive 1')"
        )
