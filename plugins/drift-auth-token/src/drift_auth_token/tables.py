"""The tables of this plugin, and the counter that tells every worker that something was taken back."""

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, String, Table, Text, select, update

metadata = MetaData()

keys = Table(
    "auth_token__keys",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("kid", String(64), nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("private", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Keys that sign, the newest being the highest generation: of two who make the same one, one wins."""

grants = Table(
    "auth_token__grants",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("source", String(255), nullable=False),
    Column("groups", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("scopes", Text),
    Column("title", String(255), nullable=False),
    Column("secret", String(64), nullable=False),
    Column("robot", String(255).with_variant(String(255, collation="C"), "postgresql"), unique=True),
    Column("parent", String(16)),
    Column("created", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("expires", Float),
    Column("used", Float),
    Column("account", String(255)),
)
"""What may be used in somebody's name until it expires or is revoked: see `Grant`."""

spent = Table(
    "auth_token__spent",
    metadata,
    Column("secret", String(64), primary_key=True),
    Column("grant", String(16), nullable=False),
    Column("at", Float, nullable=False),
)
"""Hashes of refresh tokens that were renewed: who shows one has stolen it, or was stolen from."""

revisions = Table(
    "auth_token__revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("counter", BigInteger, nullable=False),
)
"""One row, whose counter grows whenever a key changes or something is revoked; not when something is granted."""


def revision(db: Connection) -> int:
    """Returns the counter."""
    return int(db.execute(select(revisions.c.counter)).scalar_one())


def bump(db: Connection) -> None:
    """Makes every worker forget what it has verified, within 0.25 s of the commit."""
    db.execute(update(revisions).values(counter=revisions.c.counter + 1))
