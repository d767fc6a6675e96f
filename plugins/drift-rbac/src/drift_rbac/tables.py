"""The tables: an entity is a row with its JSON, and the revision says which state of them all one has read."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from drift_core.api import DriftError
from drift_rbac.directory import KINDS, Difference, Directory

_METADATA = MetaData()

REVISION: Final = Table(
    "rbac__revision",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row, to whose number every change of the other tables adds one."""

TABLES: Final[Mapping[str, Table]] = {
    kind: Table(
        f"rbac__{kind}",
        _METADATA,
        Column("id", String(512), primary_key=True),
        Column("document", Text, nullable=False),
    )
    for kind in KINDS
}

BATCH = 500
"""Rows that are removed by one statement."""


class Stale(DriftError):
    """Somebody has changed the tables since they were read."""


def read_revision(db: Connection) -> int:
    """Returns the revision of the tables."""
    found: int = db.execute(select(REVISION.c.revision)).scalar_one()
    return found


def read_directory(db: Connection) -> Directory:
    """Returns all that the tables hold."""
    kinds: dict[str, Any] = {}
    for kind, table in TABLES.items():
        decoder = msgspec.json.Decoder(KINDS[kind])
        rows = db.execute(select(table.c.id, table.c.document).order_by(table.c.id))
        kinds[kind] = {key: decoder.decode(document) for key, document in rows}
    return Directory(**kinds)


def write_differences(db: Connection, revision: int, differences: Sequence[Difference]) -> None:
    """Changes the tables, whose revision has been read before. Raises `Stale` where it is another one by now."""
    begun = db.execute(
        update(REVISION).where(REVISION.c.id == 1, REVISION.c.revision == revision).values(revision=revision + 1)
    )
    if begun.rowcount != 1:
        raise Stale
    for kind, table in TABLES.items():
        changed = [one for one in differences if one.kind == kind]
        keys = [one.key for one in changed]
        for start in range(0, len(keys), BATCH):
            db.execute(delete(table).where(table.c.id.in_(keys[start : start + BATCH])))
        rows = [
            {"id": one.key, "document": msgspec.json.encode(one.after).decode()}
            for one in changed
            if one.after is not None
        ]
        if rows:
            db.execute(insert(table), rows)
