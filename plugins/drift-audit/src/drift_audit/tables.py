"""The tables: the records, the two ends of their chain, and how far each sink has come."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table

metadata = MetaData()
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

records = Table(
    "audit__records",
    metadata,
    Column("sequence", ROW_ID, primary_key=True, autoincrement=False),
    # Microseconds since the epoch.
    Column("at", BigInteger, nullable=False),
    Column("event_type", String(1024), nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("username", String(1024)),
    Column("organization", String(1024)),
    Column("resource_type", String(1024), nullable=False),
    Column("resource_id", String(1024), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Index("audit__ix_records_at", "at"),
    Index("audit__ix_records_username_at", "username", "at"),
    Index("audit__ix_records_organization_at", "organization", "at"),
    Index("audit__ix_records_resource_id_at", "resource_id", "at"),
)
"""What is beside ``content`` is a copy of a part of it, to find it by."""

ends = Table(
    "audit__ends",
    metadata,
    # "first" is the last record that was removed for its age, "last" the newest of all.
    Column("name", String(8), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("seal", LargeBinary(32), nullable=False),
    # Tells keys apart; empty for a chain without one.
    Column("key", String(16), nullable=False),
)

sinks = Table(
    "audit__sinks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("holder", String(255)),
    # Milliseconds since the epoch.
    Column("held_until", BigInteger, nullable=False),
)
