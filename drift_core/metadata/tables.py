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
    Index(None, "digest"),
)

manifest_children = Table(
    "manifest_children",
    metadata,
    Column("manifest_id", _RowId, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", text(_DIGEST), primary_key=True),
    Index(None, "digest"),
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
