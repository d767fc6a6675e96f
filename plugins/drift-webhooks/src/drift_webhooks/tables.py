"""The table of deliveries: what each target still has to be told, or could not be told."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

deliveries = Table(
    "webhooks__deliveries",
    metadata,
    Column("target", String(64), primary_key=True),
    # Of the core's event, so that one that is told twice is sent once.
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    # Seconds since the epoch: since when the target is to be told, when it is tried again (None for what was put
    # aside), when it was tried last, and when it was put aside.
    Column("added_at", Float, nullable=False),
    Column("due_at", Float),
    Column("tried_at", Float),
    Column("aside_at", Float),
    Column("problem", Text, nullable=False),
    Index("webhooks__ix_deliveries_due", "target", "due_at", "event_id"),
    Index("webhooks__ix_deliveries_tried", "target", "tried_at"),
    Index("webhooks__ix_deliveries_aside", "aside_at"),
    Index("webhooks__ix_deliveries_added", "added_at"),
)
"""A delivery that succeeded has no row any more."""
