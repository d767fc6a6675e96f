"""Which blob lies at which key: the records that make an object a blob."""

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from drift_core.api import Digest, Statement, Struct
from drift_storage_s3 import garbage
from drift_storage_s3.tables import blobs


class Placed(Struct, frozen=True):
    """Where a blob lies; ``size`` in bytes, ``modified`` in seconds since the epoch."""

    digest: Digest
    key: str
    size: int
    modified: float


class _Row(NamedTuple):
    digest: str
    key: str
    size: int
    modified: float


_COLUMNS = blobs.c.digest, blobs.c.key, blobs.c.size, blobs.c.modified

_FIND = Statement(select(*_COLUMNS).where(blobs.c.store == bindparam("store"), blobs.c.digest == bindparam("digest")))


def find(db: Connection, store: str, digest: Digest) -> Placed | None:
    """Returns where a blob lies, None for one that was never committed."""
    row = _FIND.row(db, store=store, digest=str(digest))
    return None if row is None else _placed(_Row(*row))


def page(db: Connection, store: str, after: Digest | None, limit: int) -> list[Placed]:
    """Returns the next blobs in order of digest."""
    behind = blobs.c.digest > ("" if after is None else str(after))
    rows = db.execute(select(*_COLUMNS).where(blobs.c.store == store, behind).order_by(blobs.c.digest).limit(limit))
    return [_placed(_Row(*row)) for row in rows]


def put(db: Connection, store: str, placed: Placed) -> None:
    """Makes an object the blob; one that was it before is garbage after a time for those who read it."""
    values = {"key": placed.key, "size": placed.size, "modified": placed.modified}
    row = insert(blobs).values(store=store, digest=str(placed.digest), **values)
    same = blobs.c.store == store, blobs.c.digest == str(placed.digest)
    # In turn, since the row may be added or removed by others between two statements.
    while db.execute(row.on_conflict_do_nothing()).rowcount == 0:
        old = db.execute(select(blobs.c.key).where(*same).with_for_update()).scalar()
        if old is not None:
            db.execute(update(blobs).where(*same).values(**values))
            garbage.note(db, store, old, garbage.REPLACED_SECONDS)
            return


def remove(db: Connection, store: str, placed: Placed) -> None:
    """Forgets a blob, unless it has been pushed again and lies elsewhere now."""
    same = blobs.c.store == store, blobs.c.digest == str(placed.digest), blobs.c.key == placed.key
    db.execute(delete(blobs).where(*same))


def _placed(row: _Row) -> Placed:
    return Placed(Digest(row.digest), row.key, row.size, row.modified)
