"""The tables: last pulls, how long they are recorded, and the last runs."""

from sqlalchemy import BigInteger, Column, Float, Index, MetaData, String, Table

metadata = MetaData()

pulls = Table(
    "retention__pulls",
    metadata,
    Column("repository", String(255), primary_key=True),
    # A tag or a digest, which no tag looks like.
    Column("name", String(160), primary_key=True),
    # Seconds since the epoch: the end of an hour.
    Column("pulled_at", BigInteger, nullable=False),
    Index("retention__ix_pulls_pulled_at", "pulled_at"),
)

recording = Table(
    "retention__recording",
    metadata,
    # There is one row.
    Column("name", String(8), primary_key=True),
    # Seconds since the epoch.
    Column("began_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

runs = Table(
    "retention__runs",
    metadata,
    # The last run that dropped tags, and the last that only said which.
    Column("name", String(8), primary_key=True),
    # Seconds since the epoch.
    Column("began_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("repositories", BigInteger, nullable=False),
    Column("tags", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
)
