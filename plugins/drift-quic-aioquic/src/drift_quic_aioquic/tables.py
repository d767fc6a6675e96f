"""The tables: sessions that can be resumed, and what each process counts."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

tickets = Table(
    "quic__tickets",
    metadata,
    # A digest of what the client shows, so that nobody who reads the table can show it.
    Column("id", LargeBinary(32), primary_key=True),
    # The ticket, encrypted with a key that follows from what the client shows.
    Column("sealed", LargeBinary, nullable=False),
    # Seconds since the epoch, as all that end in _at.
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("quic__ix_tickets_created_at", "created_at"),
    Index("quic__ix_tickets_expires_at", "expires_at"),
)
"""One row for each ticket that was given to a client and not shown yet."""

workers = Table(
    "quic__workers",
    metadata,
    # Host and address, since several servers may share a database.
    Column("node", String(300), primary_key=True),
    Column("worker", Integer, primary_key=True),
    Column("pid", BigInteger, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("active_connections", BigInteger, nullable=False),
    Column("connections_total", BigInteger, nullable=False),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Column("packets_sent", BigInteger, nullable=False),
    Column("packets_received", BigInteger, nullable=False),
    Column("connection_errors", BigInteger, nullable=False),
    Column("stream_errors", BigInteger, nullable=False),
)
"""One row for each process that serves QUIC."""
