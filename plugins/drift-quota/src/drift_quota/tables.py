"""The tables: usage of repositories and of organizations, what was not added to them yet, and complete counts."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table

metadata = MetaData()
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

deltas = Table(
    "quota__deltas",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("organization", String(255), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("quota__ix_deltas_organization_repository", "organization", "repository"),
)
"""One row for each change of what a repository holds, so that no two pushes wait for the same row."""

usage = Table(
    "quota__usage",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("organization", String(255), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # Seconds since the epoch.
    Column("counted_at", Float, nullable=False),
    Index("quota__ix_usage_bytes", "bytes"),
    Index("quota__ix_usage_counted_at", "counted_at"),
)
"""A repository has a row once its blobs were counted; its deltas are added to it from then on."""

organizations = Table(
    "quota__organizations",
    metadata,
    Column("organization", String(255), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Index("quota__ix_organizations_bytes", "bytes"),
)
"""The sums of ``usage``, changed in the same transactions."""

counts = Table(
    "quota__counts",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    # Seconds since the epoch.
    Column("completed_at", Float, nullable=False),
)
"""Its one row says when every repository was last counted."""
