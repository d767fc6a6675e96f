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
    cast,
    delete,
    insert,
    literal,
    select,
    union_all,
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

_EVERYTHING: Final = union_all(
    select(literal("revision"), cast(REVISION.c.revision, Text), literal("")),
    *(select(literal(kind), table.c.id, table.c.document) for kind, table in TABLES.items()),
)

BATCH = 500
"""Rows that are removed by one statement."""


class Stale(DriftError):
    """Somebody has changed the tables since they were read."""


def read_revision(db: Connection) -> int:
    """Returns the revision of the tables."""
    found: int = db.execute(select(REVISION.c.revision)).scalar_one()
    return found


def read_directory(db: Connection) -> tuple[int, Directory]:
    """Returns the revision of the tables, and all that they hold then.

    It is one statement, since PostgreSQL may show each the state of another moment ("Read Committed Isolation Level").
    """
    found: dict[str, dict[str, str]] = {"revision": {}, **{kind: {} for kind in TABLES}}
    for kind, key, document in db.execute(_EVERYTHING):
        found[kind][key] = document
    (revision,) = found.pop("revision")
    kinds: dict[str, Any] = {}
    for kind, documents in found.items():
        decoder = msgspec.json.Decoder(KINDS[kind])
        kinds[kind] = {key: decoder.decode(documents[key]) for key in sorted(documents)}
    return int(revision), Directory(**kinds)


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
