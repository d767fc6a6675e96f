"""The tables: what is published, and what people did with it. The bytes themselves are artifacts of the registry."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

entries = Table(
    "bolt__entries",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    # "profile" or "plugin".
    Column("kind", String(8), nullable=False),
    Column("name", String(64), nullable=False),
    Column("author", String(255), nullable=False),
    # Whether a version of it is published, and which is the latest; the highest number that was ever given.
    Column("listed", Boolean, nullable=False),
    Column("version", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("made", Integer, nullable=False),
    Column("description", Text, nullable=False),
    # JSON of what else a summary has.
    Column("summary", Text, nullable=False),
    # In lower case, with line feeds between words: what is searched. On SQLite indexed by tables beside this one.
    Column("text", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("games", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("author_text", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("downloads", BigInteger, nullable=False),
    Column("rating", Float, nullable=False),
    Column("rating_sum", Float, nullable=False),
    Column("rating_count", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Index("bolt__ix_entries_kind_name", "kind", "name", unique=True),
    Index("bolt__ix_entries_listed_name", "kind", "listed", "name"),
    *(
        Index(f"bolt__ix_entries_{column}", "kind", "listed", column, "id")
        for column in ("created_at", "updated_at", "downloads", "rating", "score")
    ),
)
"""One row for each profile and plugin. It stays when the last version is deleted: numbers are not given twice."""

blocks = Table(
    "bolt__blocks",
    metadata,
    Column("kind", String(8), primary_key=True),
    # The first name of the block; empty for the first block of all.
    Column("first", String(64), primary_key=True),
    Column("entries", BigInteger, nullable=False),
)
"""How many listed names there are from one to the next: see `blocks`."""

versions = Table(
    "bolt__versions",
    metadata,
    Column("entry", ROW_ID, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", String(128), nullable=False),
    Column("author", String(255), nullable=False),
    # The request without the library, as JSON.
    Column("document", Text, nullable=False),
    # Of the manifest, or of the index of a plugin.
    Column("digest", String(200), nullable=False),
    # Whether it may be seen, and whether its tag is still to be set, which is so again when a plugin gets a platform.
    Column("published", Boolean, nullable=False),
    Column("pending", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    # From which other registry it was mirrored, or null.
    Column("mirror", Text),
    Index("bolt__ix_versions_entry_version", "entry", "version", unique=True),
    Index("bolt__ix_versions_pending", "pending", "created_at"),
)
"""One row for each version, which is not seen before its tag was set."""

parts = Table(
    "bolt__parts",
    metadata,
    Column("entry", ROW_ID, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # Such as "linux-x86_64"; empty for a profile.
    Column("platform", String(64), primary_key=True),
    Column("digest", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("config_digest", String(200), nullable=False),
    Column("config_size", BigInteger, nullable=False),
    Column("manifest_digest", String(200), nullable=False),
    Column("manifest_size", BigInteger, nullable=False),
)
"""One row for each file of a version: the TOML of a profile, or the library of a plugin for one platform."""

pulls = Table(
    "bolt__pulls",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("entry", ROW_ID, nullable=False),
    # Hours since the epoch.
    Column("hour", Integer, nullable=False),
    Index("bolt__ix_pulls_entry", "entry"),
)
"""Downloads that were not added up yet: each appends a row, so that none waits for another."""

hours = Table(
    "bolt__hours",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("downloads", BigInteger, nullable=False),
)
"""How many downloads there were in each hour."""

ratings = Table(
    "bolt__ratings",
    metadata,
    Column("entry", ROW_ID, primary_key=True, autoincrement=False),
    Column("rater", String(255), primary_key=True),
    Column("rating", Float, nullable=False),
    Column("comment", Text),
    Column("rated_at", Float, nullable=False),
)
"""What each person thinks of an entry."""

users = Table(
    "bolt__users",
    metadata,
    Column("name", String(255), primary_key=True),
    # Days since the epoch.
    Column("day", Integer, nullable=False),
    Index("bolt__ix_users_day", "day"),
)
"""Who used the API, and on which day last."""

categories = Table(
    "bolt__categories",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("entries", BigInteger, nullable=False),
    Index("bolt__ix_categories_entries", "kind", "entries"),
)
"""How many profiles have a tag, and how many plugins are of a type."""

totals = Table(
    "bolt__totals",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Sums, so that nobody adds up everything to answer a request; changes of this plugin run one at a time anyway."""

packages = Table(
    "bolt__packages",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("digest", String(200), nullable=False),
    # In lower case: what is searched.
    Column("text", Text, nullable=False),
    Column("is_game", Boolean, nullable=False),
    Column("proton", Boolean, nullable=False),
    # The versions of Proton that it names, with a line feed on both sides of each.
    Column("protons", Text, nullable=False),
    Column("tier", String(16), nullable=False),
    # The vendors that it has requirements for, with spaces around each.
    Column("vendors", String(64), nullable=False),
    # The package as JSON, without what depends on who asks.
    Column("document", Text, nullable=False),
    Column("tagged_at", Float, nullable=False),
    Index("bolt__ix_packages_tagged_at", "tagged_at"),
    Index("bolt__ix_packages_repository", "repository", "tagged_at"),
)
"""One row for each tag of an image that says by an annotation how it gets on with games."""
