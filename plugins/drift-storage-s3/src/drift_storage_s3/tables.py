"""The tables: which blob lies at which key, what uploads have received, and which objects nobody needs any more."""

import time

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    cast,
    extract,
    func,
    literal,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def text(length: int) -> TypeEngine[str]:
    """Scans are in binary order, whatever the language of a PostgreSQL server is."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


blobs = Table(
    "storage_s3__blobs",
    metadata,
    # The driver, bucket and prefix: two buckets share one database while blobs move.
    Column("store", text(255), primary_key=True),
    Column("digest", text(200), primary_key=True),
    Column("key", text(255), nullable=False),
    # Bytes.
    Column("size", BigInteger, nullable=False),
    # Seconds since the epoch, as all times here.
    Column("modified", Double, nullable=False),
)

uploads = Table(
    "storage_s3__uploads",
    metadata,
    Column("id", text(32), primary_key=True),
    Column("store", text(255), nullable=False),
    Column("algorithm", text(16), nullable=False),
    # Bytes that are kept: those of the parts, and behind them those of the tail.
    Column("size", BigInteger, nullable=False),
    # The digest of all of them, where it is known.
    Column("digest", text(200)),
    # The object with what is behind the parts; of a part's size or more only where it is the whole upload.
    Column("tail", text(255)),
    # The multipart upload, its object, the size of its parts but the last, their bytes, and the last number used.
    Column("multipart", text(1024)),
    Column("key", text(255)),
    Column("part_size", BigInteger, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    # Counts who held the upload and which keys were given out, so that no key is written twice.
    Column("turn", Integer, nullable=False),
    # Whether somebody who lost hold of it may still send parts.
    Column("unfenced", Boolean, nullable=False),
    Column("holder", text(32)),
    Column("held_until", Double, nullable=False),
)

parts = Table(
    "storage_s3__parts",
    metadata,
    Column("upload", text(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", text(255), nullable=False),
    Column("checksum", text(64)),
)

garbage = Table(
    "storage_s3__garbage",
    metadata,
    Column("store", text(255), primary_key=True),
    Column("key", text(255), primary_key=True),
    # None for an object.
    Column("multipart", text(1024)),
    # Not to be removed before that, and by nobody else until this.
    Column("due", Double, nullable=False),
    Column("taken_until", Double, nullable=False),
    Index("storage_s3__ix_garbage_store_due", "store", "due"),
)
"""Objects and multipart uploads that may be there and that nothing names: a row is written before the object is."""


def now(db: Connection) -> ColumnElement[float]:
    """Returns an expression for this moment by the one clock that all who share the database go by."""
    if db.dialect.name == "postgresql":
        return cast(extract("epoch", func.clock_timestamp()), Double)
    return literal(time.time(), Double)
