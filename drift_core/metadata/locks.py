"""What a change takes for itself until its transaction ends, where several run at once."""

from collections.abc import Iterable
from hashlib import blake2b

from sqlalchemy import BigInteger, Connection, bindparam, func, select

from drift_core.metadata.statement import Statement

_EXCLUSIVE, _SHARED = (
    Statement(select(function(bindparam("key", type_=BigInteger))))
    for function in (func.pg_advisory_xact_lock, func.pg_advisory_xact_lock_shared)
)


def exclusive(db: Connection, name: str) -> None:
    """Waits until no other transaction holds ``name``, and holds it to the end of this one.

    Who takes several takes them in one order, or they may wait for each other. On SQLite nothing is to be done: its
    changes run one at a time (PostgreSQL, "Advisory Locks").
    """
    if db.dialect.name == "postgresql":
        _EXCLUSIVE.value(db, key=_key(name))


def shared(db: Connection, name: str) -> None:
    """Like `exclusive`, but beside others that hold ``name`` shared."""
    if db.dialect.name == "postgresql":
        _SHARED.value(db, key=_key(name))


def lock_for_push(db: Connection, repository: str, tags: Iterable[str]) -> None:
    """Lets changes of a repository run beside each other, unless they move the same tag or take something away."""
    shared(db, f"repository:{repository}")
    for tag in sorted(tags):
        exclusive(db, f"tag:{repository}:{tag}")


def lock_for_removal(db: Connection, repository: str) -> None:
    """Lets nothing be pushed to a repository that may rely on what is taken away."""
    exclusive(db, f"repository:{repository}")


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
