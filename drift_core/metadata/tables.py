"""Every table of the core, as SQLAlchemy Core objects; the migrations create them, and a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows only in a column that is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")
_DIGEST = 200


def text(length: int) -> TypeEngine[str]:
    """Pages are in binary order, whatever the language of a PostgreSQL server is."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


repositories = Table(
    "repositories",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("name", text(255), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("repository_id", _RowId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("digest", text(_DIGEST), nullable=False),
    Column("media_type", text(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("artifact_type", text(255)),
    Column("annotations", Text),
    Column("subject", text(_DIGEST)),
    Column("pushed_at", Float, nullable=False),
    UniqueConstraint("repository_id", "digest"),
    # One key answers a page of referrers, filtered or not, in order of digest.
    Index(None, "repository_id", "subject", "digest"),
)

manifest_blobs = Table(
    "manifest_blobs",
    metadata,
    Column("manifest_id", _RowId, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", text(_DIGEST), primary_key=True),
    # That of the manifest: who asks what names a digest asks in one repository.
    Column("repository_id", _RowId, nullable=False, server_default="0"),
    Index(None, "repository_id", "digest", "manifest_id"),
)

manifest_children = Table(
    "manifest_children",
    metadata,
    Column("manifest_id", _RowId, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", text(_DIGEST), primary_key=True),
    # That of the manifest: who asks what names a digest asks in one repository.
    Column("repository_id", _RowId, nullable=False, server_default="0"),
    Index(None, "repository_id", "digest", "manifest_id"),
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", _RowId, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", text(128), primary_key=True),
    Column("manifest_id", _RowId, ForeignKey("manifests.id", ondelete="CASCADE"), nullable=False),
    Column("updated_at", Float, nullable=False),
    Index(None, "manifest_id"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", text(_DIGEST), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    # When somebody began to push what no repository holds at present.
    Column("wanted_at", Float),
    # Since when it is in quarantine, and why.
    Column("damaged_at", Float),
    Column("damage", Text),
)
Index(
    "ix_blobs_damaged",
    blobs.c.digest,
    sqlite_where=blobs.c.damaged_at.is_not(None),
    postgresql_where=blobs.c.damaged_at.is_not(None),
)

repository_blobs = Table(
    "repository_blobs",
    metadata,
    Column("repository_id", _RowId, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", text(_DIGEST), ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    Index(None, "digest"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", text(64), primary_key=True),
    Column("repository", text(255), nullable=False),
    Column("started_at", Float, nullable=False),
    Index(None, "started_at"),
)

unreached = Table(
    "unreached",
    metadata,
    Column("repository_id", _RowId, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", text(8), primary_key=True),
    Column("digest", text(_DIGEST), primary_key=True),
    Column("since", Float, nullable=False),
    Index(None, "kind", "since", "repository_id", "digest"),
)

trash = Table(
    "trash",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("removed_at", Float, nullable=False),
    # None of a blob that no repository held when the trash was new.
    Column("repository_id", _RowId, ForeignKey("repositories.id", ondelete="CASCADE")),
    Column("kind", text(8), nullable=False),
    Column("digest", text(_DIGEST), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tag", text(128)),
    Column("media_type", text(255)),
    Column("subject", text(_DIGEST)),
    Column("content", LargeBinary),
    Index(None, "removed_at"),
    Index(None, "digest"),
)
for _column in (trash.c.subject, trash.c.tag):
    Index(
        f"ix_trash_{_column.name}",
        trash.c.repository_id,
        _column,
        sqlite_where=_column.is_not(None),
        postgresql_where=_column.is_not(None),
    )

purges = Table(
    "purges",
    metadata,
    Column("digest", text(_DIGEST), primary_key=True),
    Column("claimed_at", Float, nullable=False),
)

collections = Table(
    "collections",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("began_by", text(16), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("state", text(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("blobs", BigInteger, nullable=False),
    Column("manifests", BigInteger, nullable=False),
    Column("bytes_freed", BigInteger, nullable=False),
)

judgements = Table(
    "judgements",
    metadata,
    Column("manifest_id", _RowId, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("subject", text(_DIGEST), primary_key=True),
    # Nodes that are configured otherwise, or have another version, judge beside each other.
    Column("trust", text(64), primary_key=True),
    Column("judged_at", Float, nullable=False),
    Column("claimed", Boolean, nullable=False),
    Column("good", Boolean, nullable=False),
    Column("found", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("repository", text(255), nullable=False),
    Column("action", text(32), nullable=False),
    Column("content", LargeBinary, nullable=False),
    # Without it SQLite gives the number of a deleted last row to the next one.
    sqlite_autoincrement=True,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscriber", text(255), primary_key=True),
    # Every event up to this one was taken, or is parked.
    Column("position", BigInteger, nullable=False),
    Column("seen_at", Float, nullable=False),
)

parked_events = Table(
    "parked_events",
    metadata,
    Column("subscriber", text(255), ForeignKey("subscriptions.subscriber", ondelete="CASCADE"), primary_key=True),
    Column("event_id", _RowId, ForeignKey("events.id"), primary_key=True),
    Index(None, "event_id"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", text(255), primary_key=True),
    Column("holder", text(255), nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("expires_at", Float, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", text(255), primary_key=True),
    Column("label", text(255), nullable=False),
    Column("address", text(255)),
    Column("version", text(64), nullable=False),
    Column("workers", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("leaving", Boolean, nullable=False),
)
