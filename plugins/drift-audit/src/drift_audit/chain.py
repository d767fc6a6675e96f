"""Chains records by hashes: each includes the one before it, and the ends of the chain are sealed."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from drift_audit.record import SEVERITIES, Record, encoded
from drift_audit.tables import ends, records, sinks
from drift_core.api import StartError, Statement, Unavailable, exclusive

_RANKS = {severity.capitalize(): rank for rank, severity in enumerate(SEVERITIES)}
_END = select(ends.c.sequence, ends.c.hash, ends.c.seal, ends.c.key).where(ends.c.name == bindparam("wanted"))
_READ = Statement(_END)
# Waits for whoever appends now, on whatever node, and then reads what that one has committed (PostgreSQL, "Read
# Committed Isolation Level"); SQLite, whose changes run one at a time, leaves it out.
_HOLD = Statement(_END.with_for_update())
_INSERT = Statement(insert(records), *records.columns.keys())
_MOVE = Statement(
    update(ends)
    .where(ends.c.name == bindparam("wanted"))
    .values(sequence=bindparam("to"), hash=bindparam("new_hash"), seal=bindparam("new_seal"))
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

CHAIN = "audit chain"
"""What is held while a chain is begun, see `exclusive`: as yet there is no end that could be."""

KEY_BYTES = 32
BEGINNING = bytes(32)
"""What stands for the hash before the first record."""


class Key:
    """Makes the hashes: HMAC-SHA256 where there is a key, else plain SHA-256, which anybody can make."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        # Of a key it tells nothing, but that it is the same.
        self.name = "" if key is None else hashlib.sha256(b"drift-audit key\0" + key).hexdigest()[:16]

    def hash(self, previous: bytes, content: bytes) -> bytes:
        """Returns the hash of a record behind the one whose hash is ``previous``."""
        return self._of(previous + content)

    def seal(self, name: str, sequence: int, hash_: bytes) -> bytes:
        """Returns what shows that an end of the chain was written by who has the key."""
        return self._of(b"drift-audit %b %d " % (name.encode(), sequence) + hash_)

    def sealed(self, name: str, end: "End") -> bool:
        """Returns whether an end of the chain was written by who has the key."""
        return hmac.compare_digest(self.seal(name, end.sequence, end.hash), end.seal)

    def _of(self, content: bytes) -> bytes:
        if self._key is None:
            return hashlib.sha256(content).digest()
        return hmac.digest(self._key, content, "sha256")


class End(Struct, frozen=True):
    """One end of a chain, as the database has it."""

    sequence: int
    hash: bytes
    seal: bytes
    key: str


class Row(Struct, frozen=True, kw_only=True):
    """A record as it is stored; ``at`` in microseconds since the epoch, ``severity`` a place in `SEVERITIES`."""

    sequence: int
    at: int
    event_type: str
    severity: int
    success: bool
    username: str | None
    organization: str | None
    resource_type: str
    resource_id: str
    content: bytes
    previous: bytes
    hash: bytes


def open_key(file: str | None) -> Key:
    """Returns the key of a file. Raises `StartError` where it cannot be used."""
    return Key(None) if file is None else _key_of(file, Path.read_bytes)


def make_key(file: str | None) -> Key:
    """Returns the key of a file, which is made where it is missing. Raises `StartError` where it cannot be used."""
    if file is None or Path(file).exists():
        return open_key(file)
    return _key_of(file, _new_key)


def _key_of(file: str, get: Callable[[Path], bytes]) -> Key:
    try:
        key = get(Path(file))
    except OSError as error:
        reason = f"audit.key_file: {file}: {error.strerror or error}"
        raise StartError(reason) from error
    if len(key) < KEY_BYTES:
        reason = f"audit.key_file: {file} has {len(key)} bytes; a key has {KEY_BYTES} at least"
        raise StartError(reason)
    return Key(key)


def _new_key(path: Path) -> bytes:
    """Makes the file whole or not at all; one that is there already stays as it is."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return path.read_bytes()


class Beginning(Struct, frozen=True):
    """How a chain is begun: with the key of a file or without, ``had_key`` where the file was there before.

    Where something tells of a chain that is gone, a new one is only made if ``anew``.
    """

    key_file: str | None
    had_key: bool
    anew: bool

    @classmethod
    def of(cls, key_file: str | None, *, anew: bool) -> "Beginning":
        """Returns it as of now; a transaction that is repeated must not take its own key for an older one."""
        return cls(key_file, key_file is not None and Path(key_file).exists(), anew)


def begin(db: Connection, beginning: Beginning, sink_names: Sequence[str]) -> Key:
    """Makes what is missing: the chain with its key, and a position for each sink, behind what was recorded so far.

    Returns the key.

    Raises:
        StartError: the key cannot be used, the chain was made with another one, or the chain is gone.
    """
    last = end_of(db, "last")
    if last is None:
        exclusive(db, CHAIN)
        last = end_of(db, "last")
    key_file = beginning.key_file
    if last is None:
        key = _begin_chain(db, beginning)
    else:
        key = open_key(key_file) if last.key else Key(None)
        if last.key != key.name or (key_file is not None and not last.key):
            made = "with another key" if last.key else "without a key"
            raise StartError(f"audit.key_file: the trail was begun {made}; use that, or begin a new trail")
    known = set(db.execute(select(sinks.c.name)).scalars())
    for name in sink_names:
        if name not in known:
            position = 0 if last is None else last.sequence
            db.execute(insert(sinks).values(name=name, position=position, held_until=0))
    return key


def _begin_chain(db: Connection, beginning: Beginning) -> Key:
    """Makes an empty chain. Its key is made in the same transaction: no other worker takes it for an older one."""
    key_file = beginning.key_file
    traces = {
        "one end of its chain": end_of(db, "first") is not None,
        "records": db.execute(select(records.c.sequence).limit(1)).first() is not None,
        "the position of a sink": db.execute(select(sinks.c.name).where(sinks.c.position > 0)).first() is not None,
        f"its key, {key_file}": beginning.had_key,
    }
    found = ", ".join(trace for trace, there in traces.items() if there)
    if found and not beginning.anew:
        raise StartError(
            f"audit: the trail is gone, but for {found}; find out who removed it. To begin a new one, or to begin one "
            "with a key that was made elsewhere, start once with --set audit.begin_anew=true"
        )
    key = make_key(key_file)
    db.execute(delete(ends))
    db.execute(delete(records))
    db.execute(update(sinks).values(position=0))
    for name in ("first", "last"):
        seal = key.seal(name, 0, BEGINNING)
        db.execute(insert(ends).values(name=name, sequence=0, hash=BEGINNING, seal=seal, key=key.name))
    return key


def end_of(db: Connection, name: str) -> End | None:
    """Returns an end of the chain, ``first`` or ``last``, or None where it is missing."""
    return _end(_READ, db, name)


def _end(query: Statement, db: Connection, name: str) -> End | None:
    row = query.row(db, wanted=name)
    return None if row is None else End(*row)


def append(db: Connection, key: Key, new: Sequence[Record]) -> None:
    """Adds records to the chain, in their order, in the transaction of ``db``.

    From then on until that transaction ends nobody else appends: it should come last, and wait for nothing more.

    Raises:
        Unavailable: the end of the chain is gone, or was not written with the key; what follows would hide that.
    """
    # Read again each time: other processes append, too.
    last = _end(_HOLD, db, "last")
    if last is None:
        raise Unavailable("the audit trail has lost its end")
    if not key.sealed("last", last):
        raise Unavailable("the end of the audit trail was set by somebody without the key")
    sequence, previous, rows = last.sequence, last.hash, list[dict[str, object]]()
    for record in new:
        sequence += 1
        content = encoded(record, sequence)
        hash_ = key.hash(previous, content)
        copies = copies_of(record)
        rows.append({**copies, "sequence": sequence, "content": content, "previous": previous, "hash": hash_})
        previous = hash_
    _INSERT.run_many(db, rows)
    move_end(db, key, "last", sequence, previous)


def move_end(db: Connection, key: Key, name: str, sequence: int, hash_: bytes) -> None:
    """Sets an end of the chain, and seals it."""
    seal = key.seal(name, sequence, hash_)
    _MOVE.run(db, wanted=name, to=sequence, new_hash=hash_, new_seal=seal)


def copies_of(record: Record) -> dict[str, object]:
    """Returns the columns by which a record is found."""
    return {
        "at": microseconds(record.timestamp),
        "event_type": record.event_type,
        "severity": _RANKS[record.severity],
        "success": record.result.success,
        "username": record.user.username,
        "organization": record.resource.namespace,
        "resource_type": record.resource.type_,
        "resource_id": record.resource.id,
    }


def microseconds(time: datetime) -> int:
    """Returns a time, which has an offset, as microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND
