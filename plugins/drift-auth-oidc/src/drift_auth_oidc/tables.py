"""The tables, and the counter that every revocation moves."""

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, String, Table, Text, select, update

metadata = MetaData()

revision = Table(
    "auth_oidc__revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("counter", BigInteger, nullable=False),
)
"""One row; what is remembered of `grants` is good while the counter stands."""

seal = Table(
    "auth_oidc__seal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False),
)
"""One row; see `drift_auth_oidc.seal`."""

grants = Table(
    "auth_oidc__grants",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("person", Text, nullable=False),
    Column("label", String(255), nullable=False),
    Column("sealed", Text, nullable=True),
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("checked", Float, nullable=False),
    Column("expires", Float, nullable=False),
)
"""Sessions, tokens of `drift login`, tokens of jobs; times in seconds since the epoch, secrets only as hashes."""

states = Table(
    "auth_oidc__states",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("expires", Float, nullable=False),
)
"""Logins that came back, until their state would be refused as too old."""

devices = Table(
    "auth_oidc__devices",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user_code", String(16), nullable=False, unique=True),
    Column("label", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("network", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("session", String(32), nullable=True),
    Column("person", Text, nullable=True),
    Column("sealed", Text, nullable=True),
    Column("checked", Float, nullable=False),
    Column("interval", Integer, nullable=False),
    Column("polled", Float, nullable=False),
    Column("expires", Float, nullable=False),
)
"""Devices that wait for somebody who logs in for them (RFC 8628); ``session`` is the id of the grant that decided."""


def counter(db: Connection) -> int:
    """Returns the revision."""
    return db.execute(select(revision.c.counter)).scalar_one()


def revise(db: Connection) -> None:
    """Makes every process forget what it remembers of `grants`."""
    db.execute(update(revision).values(counter=revision.c.counter + 1))
