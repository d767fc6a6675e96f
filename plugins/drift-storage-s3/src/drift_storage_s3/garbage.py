"""The records of objects and multipart uploads that may be there and that nothing names; noted before they are made."""

from sqlalchemy import Connection, and_, delete
from sqlalchemy.dialects.postgresql import insert

from drift_storage_s3.tables import garbage, now

INTENT_SECONDS = 3600.0
"""How long after it was noted an object that was to be written may still become part of something."""

MARGIN_SECONDS = 300.0
"""How much earlier than it is due an object is nobody's to use any more: longer than any request takes."""

REPLACED_SECONDS = 3600.0
"""How long the object of a blob that was pushed again stays for those who read it."""

ABANDONED_SECONDS = 120.0
"""How long what an upload left behind stays: requests that write it may still be under way."""


def note(db: Connection, store: str, key: str, seconds: float, multipart: str | None = None) -> None:
    """Says that an object, or a multipart upload, is to be removed in ``seconds`` unless it is claimed before."""
    due = now(db) + seconds
    row = insert(garbage).values(store=store, key=key, multipart=multipart, due=due, taken_until=0.0)
    db.execute(row.on_conflict_do_update(index_elements=["store", "key"], set_={"due": due, "multipart": multipart}))


def claim(db: Connection, store: str, key: str) -> bool:
    """Says that an object is part of something now; False where it may have been removed already."""
    mine = and_(garbage.c.store == store, garbage.c.key == key, garbage.c.due > now(db) + MARGIN_SECONDS)
    return db.execute(delete(garbage).where(mine)).rowcount == 1
