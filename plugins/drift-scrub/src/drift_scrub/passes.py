"""How far a pass over the stored blobs has come, in the database, so that a restart or another node goes on there."""

import time
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import BigInteger, Column, Connection, Float, MetaData, String, Table, delete, insert, select

Name = Literal["current", "last"]

metadata = MetaData()

passes = Table(
    "scrub__passes",
    metadata,
    # The pass that goes on, and the last one that was complete.
    Column("name", String(8), primary_key=True),
    Column("position", String(200)),
    # Seconds since the epoch.
    Column("began_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("checked", BigInteger, nullable=False),
    Column("bytes_read", BigInteger, nullable=False),
    Column("damaged", BigInteger, nullable=False),
    Column("unreadable", BigInteger, nullable=False),
)


class Pass(Struct, kw_only=True):
    """One pass; times in seconds since the epoch. ``position`` is the last digest that is done, None for none.

    ``checked``, ``damaged`` and ``unreadable`` are numbers of blobs; the damaged are among the checked.
    """

    began_at: float
    updated_at: float
    position: str | None = None
    checked: int = 0
    bytes_read: int = 0
    damaged: int = 0
    unreadable: int = 0

    @classmethod
    def new(cls) -> "Pass":
        """Returns one that begins now."""
        now = time.time()
        return cls(began_at=now, updated_at=now)


def load(db: Connection, name: Name) -> Pass | None:
    """Returns a pass, or None where there is none."""
    row = db.execute(select(passes).where(passes.c.name == name)).mappings().first()
    return None if row is None else Pass(**{key: value for key, value in row.items() if key != "name"})


def save(db: Connection, pass_: Pass, name: Name = "current") -> None:
    """Writes how far a pass has come."""
    pass_.updated_at = time.time()
    db.execute(delete(passes).where(passes.c.name == name))
    db.execute(insert(passes).values(name=name, **asdict(pass_)))


def finish(db: Connection, pass_: Pass) -> None:
    """Makes a pass the last one that was complete."""
    pass_.position = None
    db.execute(delete(passes).where(passes.c.name == "current"))
    save(db, pass_, "last")
