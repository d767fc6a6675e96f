"""The tables: what the console shows, in the order in which it shows it, and who is logged in."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()


def sorted_text(length: int) -> String:
    """Returns the type of a text that is compared byte by byte, also by PostgreSQL: ranges of an index rely on it."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def fitted(text: str, most: int) -> str:
    """Returns the beginning of a text, of at most ``most`` bytes: PostgreSQL counts those of an index."""
    return text.encode()[:most].decode(errors="ignore")


repositories = Table(
    "ui__repositories",
    metadata,
    Column("name", sorted_text(255), primary_key=True),
    # Tags; bytes of all blobs; pulls of manifests.
    Column("images", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("pulls", BigInteger, nullable=False),
    # Seconds since the epoch.
    Column("updated_at", Float, nullable=False),
    # Whether the size has to be looked up.
    Column("stale", Boolean, nullable=False),
    # The last event that was counted.
    Column("event", BigInteger, nullable=False),
    Index("ui__ix_repositories_updated_at", "updated_at", "name"),
    Index("ui__ix_repositories_size", "size", "name"),
    Index("ui__ix_repositories_pulls", "pulls", "name"),
    Index("ui__ix_repositories_stale", "stale", "name"),
)

images = Table(
    "ui__images",
    metadata,
    Column("repository", sorted_text(255), primary_key=True),
    Column("tag", sorted_text(128), primary_key=True),
    Column("digest", sorted_text(160), nullable=False),
    Column("media_type", String(255), nullable=False),
    # What an artifact is; empty for an image.
    Column("kind", String(255), nullable=False),
    # Bytes of what a client of every platform pulls.
    Column("size", BigInteger, nullable=False),
    Column("platforms", String(500), nullable=False),
    # Seconds since the epoch.
    Column("pushed_at", Float, nullable=False),
    Column("pushed_by", String(255), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("pulls", BigInteger, nullable=False),
    # Whether its layers are among those that are found.
    Column("layered", Boolean, nullable=False),
    Index("ui__ix_images_digest", "digest"),
    Index("ui__ix_images_tag", "tag", "repository"),
    Index("ui__ix_images_size", "size"),
    Index("ui__ix_images_pushed_at", "pushed_at"),
    Index("ui__ix_images_repository", "repository", "pushed_at", "tag"),
    Index("ui__ix_images_verified", "verified", "pushed_at"),
)

labels = Table(
    "ui__labels",
    metadata,
    Column("repository", sorted_text(255), primary_key=True),
    Column("tag", sorted_text(128), primary_key=True),
    Column("key", sorted_text(255), primary_key=True),
    Column("value", sorted_text(500), nullable=False),
    Index("ui__ix_labels_key", "key", "value"),
)

layers = Table(
    "ui__layers",
    metadata,
    Column("digest", sorted_text(160), primary_key=True),
    Column("repository", sorted_text(255), primary_key=True),
    Column("tag", sorted_text(128), primary_key=True),
    Index("ui__ix_layers_repository", "repository", "tag"),
)

terms = Table(
    "ui__terms",
    metadata,
    # A part of a repository's name, or all of it.
    Column("term", sorted_text(255), primary_key=True),
    Column("repository", sorted_text(255), primary_key=True),
    Index("ui__ix_terms_repository", "repository"),
)

grams = Table(
    "ui__grams",
    metadata,
    # Three characters of a term.
    Column("gram", sorted_text(3), primary_key=True),
    Column("term", sorted_text(255), primary_key=True),
)

days = Table(
    "ui__days",
    metadata,
    # Of all of them where it is empty.
    Column("repository", sorted_text(255), primary_key=True),
    # Days since the epoch, in UTC.
    Column("day", Integer, primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    Column("pushes", BigInteger, nullable=False),
    # Bytes at the end of the day; only of all of them.
    Column("size", BigInteger, nullable=False),
)

totals = Table(
    "ui__totals",
    metadata,
    # There is one row.
    Column("name", String(8), primary_key=True),
    Column("repositories", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("pulls", BigInteger, nullable=False),
    # When all was last compared with the registry; seconds since the epoch.
    Column("compared_at", Float, nullable=False),
)

sessions = Table(
    "ui__sessions",
    metadata,
    # SHA-256 of the secret in the cookie.
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    # JSON of the identity.
    Column("identity", Text, nullable=False),
    # What the browser calls itself, and from where it logged in.
    Column("agent", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    # Seconds since the epoch.
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Index("ui__ix_sessions_name", "name", "created_at"),
    Index("ui__ix_sessions_used_at", "used_at"),
)
