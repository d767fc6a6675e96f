"""The records of uploads: what each has received, and who may write to it. Every function is for one transaction.

Who holds an upload shows the token of its hold with each change, and changes nothing once another one has taken over.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, insert, or_, select, update

from drift_core.api import Digest, OffsetMismatch, RegistryError, Struct, UploadBusy, UploadId, UploadUnknown
from drift_storage_s3 import garbage
from drift_storage_s3.bucket import Part
from drift_storage_s3.placement import Placed, put
from drift_storage_s3.tables import now, parts, uploads

HOLD_SECONDS = 6.0
"""How long others wait for a process that says nothing any more."""

SKIPPED_NUMBERS = 8
"""Numbers of parts that a process which died may have used since it last said which."""


class Upload(Struct, frozen=True):
    """What is known of an upload; see the table.

    ``held`` is whether somebody writes to it now. ``size`` and ``sent`` are in bytes.
    """

    id: UploadId
    algorithm: str
    size: int
    digest: str | None
    tail: str | None
    multipart: str | None
    key: str | None
    part_size: int
    sent: int
    number: int
    turn: int
    unfenced: bool
    held: bool = False

    def object_key(self) -> str:
        """Returns the key that this turn may write, once."""
        return f"data/{self.id}.{self.turn}"

    def multipart_key(self) -> str:
        """Returns the key under which this turn may begin a multipart upload, once."""
        return f"data/{self.id}.{self.turn}p"


class Tail(Struct, frozen=True):
    """An object to be behind the parts, so that the upload has ``size`` bytes; ``digest`` of all, None if unknown."""

    key: str
    size: int
    digest: Digest | None


class End(Struct, frozen=True):
    """How a hold ends: with the last ``number`` of a part that was used, and a new tail or none.

    ``digest`` is that of all bytes, None where it is unknown or has not changed. ``doubtful`` says that a request to
    send a part failed, which may still arrive; ``unwritten`` that nobody has tried to write to the key of this turn.
    """

    number: int
    tail: Tail | None = None
    digest: Digest | None = None
    doubtful: bool = False
    unwritten: bool = False


_COLUMNS = tuple(uploads.c[name] for name in Upload.__struct_fields__ if name != "held")


def begin(db: Connection, store: str, upload: UploadId, algorithm: str, part_size: int) -> None:
    """Adds an empty upload."""
    values = {"size": 0, "sent": 0, "number": 0, "turn": 0, "unfenced": False, "held_until": 0.0}
    db.execute(insert(uploads).values(id=upload, store=store, algorithm=algorithm, part_size=part_size, **values))


def find(db: Connection, store: str, upload: UploadId) -> Upload | None:
    """Returns what is known of an upload, or None."""
    held = and_(uploads.c.holder.is_not(None), uploads.c.held_until >= now(db))
    row = db.execute(select(*_COLUMNS, held).where(uploads.c.id == upload, uploads.c.store == store)).first()
    return None if row is None else _upload(row)


def hold(db: Connection, store: str, upload: UploadId, offset: int | None, token: str, skipped: int) -> Upload | None:
    """Makes ``token`` the holder, whose turn has a key to write to; returns None where somebody else holds it.

    Where it takes over from one that said nothing any more, as many numbers of parts are ``skipped``.

    Raises:
        UploadUnknown: there is no such upload.
        OffsetMismatch: it ends elsewhere than at ``offset``, unless that is None.
    """
    moment = now(db)
    free = or_(uploads.c.holder.is_(None), uploads.c.held_until < moment)
    at = uploads.c.size == (uploads.c.size if offset is None else offset)
    taken = (
        update(uploads)
        .where(uploads.c.id == upload, uploads.c.store == store, free, at)
        .values(
            holder=token,
            held_until=moment + HOLD_SECONDS,
            turn=uploads.c.turn + 1,
            unfenced=or_(uploads.c.unfenced, uploads.c.holder.is_not(None)),
            number=uploads.c.number + case((uploads.c.holder.is_(None), 0), else_=skipped),
        )
        .returning(*_COLUMNS)
    )
    row = db.execute(taken).first()
    if row is not None:
        held = _upload(row)
        garbage.note(db, store, held.object_key(), garbage.INTENT_SECONDS)
        return held
    found = find(db, store, upload)
    if found is None:
        raise UploadUnknown
    if not found.held and offset is not None and offset != found.size:
        raise OffsetMismatch(found.size)
    return None


def renew(db: Connection, upload: UploadId, token: str) -> RegistryError | None:
    """Holds for longer. Returns what `_change` would raise: who asked may not be there any more to hear it."""
    try:
        _change(db, upload, token, held_until=now(db) + HOLD_SECONDS)
    except (UploadUnknown, UploadBusy) as error:
        return error
    return None


def next_key(db: Connection, store: str, upload: UploadId, token: str) -> Upload:
    """Begins another turn of the same holder, which has another key to write to. Raises what `_change` does."""
    turned = _change(db, upload, token, turn=uploads.c.turn + 1)
    garbage.note(db, store, turned.object_key(), garbage.INTENT_SECONDS)
    return turned


def begin_parts(db: Connection, store: str, held: Upload, token: str, key: str, multipart: str) -> Upload:
    """Says which multipart upload gets the parts; one before it got none. Raises what `_change` does."""
    changed = _change(db, held.id, token, key=key, multipart=multipart, number=0, unfenced=False)
    if held.key is not None:
        garbage.note(db, store, held.key, garbage.ABANDONED_SECONDS, held.multipart)
    return changed


def add_parts(db: Connection, store: str, held: Upload, token: str, added: Sequence[Part]) -> Upload:
    """Adds parts behind the others, in which the tail is, too. Raises what `_change` does."""
    sent = held.sent + sum(part.size for part in added)
    changed = _change(db, held.id, token, sent=sent, size=sent, number=added[-1].number, digest=None, tail=None)
    values = [{"upload": held.id} | {name: getattr(part, name) for name in _PART} for part in added]
    db.execute(insert(parts), values)
    _abandon(db, store, held.tail)
    return changed


def put_tail(db: Connection, store: str, held: Upload, token: str, tail: Tail) -> Upload:
    """Makes an object what is behind the parts. Raises what `_change` does."""
    digest = None if tail.digest is None else str(tail.digest)
    changed = _change(db, held.id, token, size=tail.size, tail=tail.key, digest=digest)
    if not garbage.claim(db, store, tail.key):
        raise UploadBusy
    _abandon(db, store, held.tail)
    return changed


def put_whole(db: Connection, store: str, held: Upload, token: str) -> Upload:
    """Makes the object that its parts have become all of the upload. Raises what `_change` does."""
    values = {
        "size": held.size,
        "tail": held.key,
        "sent": 0,
        "number": 0,
        "key": None,
        "multipart": None,
        "unfenced": False,
    }
    changed = _change(db, held.id, token, **values)
    db.execute(delete(parts).where(parts.c.upload == held.id))
    _abandon(db, store, held.tail)
    return changed


def release(db: Connection, store: str, held: Upload, token: str, end: End) -> Upload:
    """Lets others hold it. Raises what `_change` does."""
    if end.tail is not None:
        held = put_tail(db, store, held, token, end.tail)
    values: dict[str, Any] = {} if end.digest is None else {"digest": str(end.digest)}
    unfenced = held.unfenced or end.doubtful
    released = _change(db, held.id, token, holder=None, number=end.number, unfenced=unfenced, **values)
    if end.unwritten:
        garbage.claim(db, store, held.object_key())
    return released


def parts_of(db: Connection, upload: UploadId) -> list[Part]:
    """Returns the parts in order."""
    columns = (parts.c[name] for name in _PART)
    found = db.execute(select(*columns).where(parts.c.upload == upload).order_by(parts.c.number))
    return [Part(*row) for row in found]


def forget(db: Connection, store: str, upload: UploadId) -> None:
    """Ends an upload, held or not, and makes garbage of what it has."""
    ended = delete(uploads).where(uploads.c.id == upload, uploads.c.store == store).returning(*_COLUMNS)
    row = db.execute(ended).first()
    if row is None:
        return
    found = _upload(row)
    db.execute(delete(parts).where(parts.c.upload == upload))
    _abandon(db, store, found.tail)
    if found.key is not None:
        garbage.note(db, store, found.key, garbage.ABANDONED_SECONDS, found.multipart)


def commit(db: Connection, store: str, upload: Upload, placed: Placed) -> bool:
    """Makes the one object of an upload the blob, and ends the upload.

    Returns False, and changes nothing, where anybody has held the upload since it was found.
    """
    unheld = or_(uploads.c.holder.is_(None), uploads.c.held_until < now(db))
    same = uploads.c.id == upload.id, uploads.c.store == store, uploads.c.turn == upload.turn, unheld
    if db.execute(delete(uploads).where(*same)).rowcount == 0:
        return False
    if upload.key is not None:
        # It was begun, and nobody came to record a part of it.
        garbage.note(db, store, upload.key, garbage.ABANDONED_SECONDS, upload.multipart)
    put(db, store, placed)
    return True


_PART = Part.__struct_fields__


def _change(db: Connection, upload: UploadId, token: str, **values: Any) -> Upload:
    """Changes an upload that ``token`` holds.

    Raises:
        UploadUnknown: it was aborted.
        UploadBusy: another one has taken over.
    """
    held = uploads.c.id == upload, uploads.c.holder == token
    row = db.execute(update(uploads).where(*held).values(**values).returning(*_COLUMNS)).first()
    if row is not None:
        return _upload(row)
    if db.execute(select(uploads.c.id).where(uploads.c.id == upload)).first() is None:
        raise UploadUnknown
    raise UploadBusy


def _abandon(db: Connection, store: str, key: str | None) -> None:
    if key is not None:
        garbage.note(db, store, key, garbage.ABANDONED_SECONDS)


def _upload(row: Row[Any]) -> Upload:
    return Upload(*row)
