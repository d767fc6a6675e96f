"""Counts the names of a list in blocks, so that a page far behind costs what the first one does.

Block after block holds the names from its first one to that of the next. A page is found by adding up the counts of
blocks, of which there are some hundred times fewer than names, and by passing over names of one block only.
"""

from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from drift_bolt.tables import blocks, entries

LARGEST: Final = 1000
"""Names of a block, which is then split in two."""


def count(db: Connection, kind: str, name: str, change: int) -> None:
    """Counts a name that is in the list since this transaction, or is there no more; ``change`` is 1 or -1."""
    mine = blocks.c.kind == kind
    query = select(blocks.c.first, blocks.c.entries).where(mine, blocks.c.first <= name)
    row = db.execute(query.order_by(blocks.c.first.desc()).limit(1)).one_or_none()
    if row is None:
        # The first block of all begins before every name.
        db.execute(insert(blocks).values(kind=kind, first="", entries=0))
    first, number = ("", change) if row is None else (row[0], row[1] + change)
    own = (mine, blocks.c.first == first)
    if number <= 0 and first:
        db.execute(delete(blocks).where(*own))
        return
    db.execute(update(blocks).where(*own).values(entries=number))
    if number > LARGEST:
        _split(db, kind, first, number)


def _split(db: Connection, kind: str, first: str, number: int) -> None:
    left = number // 2
    names = select(entries.c.name).where(entries.c.kind == kind, entries.c.listed, entries.c.name >= first)
    middle = db.execute(names.order_by(entries.c.name).offset(left).limit(1)).scalar_one()
    db.execute(update(blocks).where(blocks.c.kind == kind, blocks.c.first == first).values(entries=left))
    db.execute(insert(blocks).values(kind=kind, first=middle, entries=number - left))


def names_from(db: Connection, kind: str, start: int, most: int) -> list[int]:
    """Returns the ids of at most so many entries by name, without the ``start`` before them."""
    upto: Any = func.sum(blocks.c.entries).over(order_by=blocks.c.first).label("upto")
    sums = select(blocks.c.first, blocks.c.entries, upto).where(blocks.c.kind == kind).subquery()
    query = select(sums.c.first, sums.c.upto - sums.c.entries).where(sums.c.upto > start)
    row = db.execute(query.order_by(sums.c.first).limit(1)).one_or_none()
    if row is None:
        return []
    listed = select(entries.c.id).where(entries.c.kind == kind, entries.c.listed, entries.c.name >= row[0])
    return list(db.execute(listed.order_by(entries.c.name).offset(start - int(row[1])).limit(most)).scalars())
