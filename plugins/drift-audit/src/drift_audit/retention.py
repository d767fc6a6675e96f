"""Removes what is older than it has to be kept, so that the rest of the chain still verifies."""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select

from drift_audit.chain import Key, Row, end_of, move_end
from drift_audit.tables import records, sinks
from drift_audit.verification import check

BATCH = 500
"""Most records that are removed in one transaction, which all other changes wait for."""

DAY_MICROSECONDS = 86_400_000_000


class BrokenChainError(Exception):
    """The chain was changed by somebody without the key: to remove of it, and to seal the rest, would hide that."""


def purge(db: Connection, key: Key, days: int, sink_names: Sequence[str]) -> int:
    """Removes up to `BATCH` of the oldest records, those older than ``days``, and returns how many.

    What a sink has not taken yet stays. The last that is removed becomes the first end of the chain.

    Raises:
        BrokenChainError: an end of the chain, or a record that would be looked at, is not as it was written.
    """
    first, last = end_of(db, "first"), end_of(db, "last")
    if first is None or last is None or not (key.sealed("first", first) and key.sealed("last", last)):
        raise BrokenChainError("an end of the chain is gone, or was set by somebody without the key")
    taken = db.execute(select(func.min(sinks.c.position)).where(sinks.c.name.in_(sink_names))).scalar()
    most = last.sequence if taken is None else min(last.sequence, taken)
    oldest = int(time.time() * 1e6) - days * DAY_MICROSECONDS
    old = select(records).where(records.c.sequence > first.sequence, records.c.sequence <= most)
    newest, hash_ = first.sequence, first.hash
    for values in db.execute(old.order_by(records.c.sequence).limit(BATCH)).mappings().all():
        row = Row(**values)
        broken = check(row, key, newest + 1, hash_)
        if broken is not None:
            message = f"record {broken.sequence}: {broken.kind}; {broken.detail}"
            raise BrokenChainError(message)
        # The chain loses its beginning only: what stands behind something young stays, too.
        if row.at >= oldest:
            break
        newest, hash_ = row.sequence, row.hash
    if newest > first.sequence:
        db.execute(delete(records).where(records.c.sequence > first.sequence, records.c.sequence <= newest))
        move_end(db, key, "first", newest, hash_)
    return newest - first.sequence
