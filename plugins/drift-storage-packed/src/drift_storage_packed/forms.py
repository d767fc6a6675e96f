"""What the database says of packed blobs: every change is a short transaction, and those of this plugin run in turn.

A form is a packed blob, from before its first byte is written until after its last one is gone::

    making --> packed <--> moving
       |         |           |
       +---------+-----------+--> ending --> released

========  =====================================================  ===================================
state     what lies beneath                                      what a dead process leaves is
========  =====================================================  ===================================
making    the original, and an upload or the blob ``packed``     ended, a minute after the last sign
          that is not proved yet: nobody reads it
packed    ``packed``, proved; with ``original_left`` the
          original, too. Who misses that reads ``packed``
moving    ``packed``; the original is being taken away, or       packed, after five minutes
          brought back: who would delete the blob waits
ending    what is left of ``packed``, which nobody reads         taken away by the next look
released  nothing: kept for scans that began before              forgotten, after an hour
========  =====================================================  ===================================

Of a digest one at most is making, packed or moving. An original goes only from packed over moving, so that no step
leaves a blob without a whole form.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any, Literal
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from drift_core.api import BlobStat, Digest, Unavailable

State = Literal["making", "packed", "moving", "ending", "released"]

READABLE: tuple[State, ...] = ("packed", "moving")
LIVE: tuple[State, ...] = ("making", "packed", "moving")

PAGE = 500
"""How many forms, or blobs, are asked for at once."""

RELEASED_SECONDS = 3600.0
"""How long a released form is kept."""

ABANDONED_SECONDS = 60.0
"""After how long without a sign of life somebody else cleans up what was being made."""

STUCK_SECONDS = 300.0
"""After how long whoever moved an original is taken for dead. Longer than any call of a store is under way."""

DIGEST = String(200).with_variant(String(200, collation="C"), "postgresql")
"""In the order in which a store yields them."""

metadata = MetaData()

forms = Table(
    "storage_packed__forms",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", DIGEST, nullable=False, index=True),
    Column("packed", DIGEST, index=True),
    Column("upload", Text),
    Column("state", String(10), nullable=False),
    # Seconds since the epoch.
    Column("changed_at", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("modified", Float, nullable=False),
    Column("algorithm", String(10), nullable=False),
    Column("frame_size", Integer, nullable=False),
    Column("packed_size", BigInteger, nullable=False),
    Column("original_left", Boolean, nullable=False),
    Column("pushed", Boolean, nullable=False),
    Index("ix_storage_packed__forms_due", "state", "original_left", "changed_at"),
)

skipped = Table(
    "storage_packed__skipped",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("reason", String(20), nullable=False),
    Column("recipe", String(100), nullable=False),
)

passes = Table(
    "storage_packed__passes",
    metadata,
    # The pass that goes on, and the last one that was complete.
    Column("name", String(8), primary_key=True),
    Column("position", String(200)),
    Column("began_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)


class Form(Struct, frozen=True, kw_only=True):
    """A blob ``digest``, ``size`` bytes, as the blob ``packed`` of the store beneath, None until it is known.

    ``upload`` is where it is being written, or its original is being brought back. ``changed_at`` is when ``state``
    changed, or when who makes it was last seen. ``modified`` is that of the original. ``original_left`` says that the
    original was verified to be what is packed, and may still lie beneath. ``pushed`` says that a client has pushed the
    very bytes that lie packed, as a blob of its own.
    """

    id: str
    digest: Digest
    packed: Digest | None
    upload: str | None
    state: State
    changed_at: float
    size: int
    modified: float
    algorithm: str
    frame_size: int
    packed_size: int
    original_left: bool
    pushed: bool

    @property
    def stat(self) -> BlobStat:
        """What the original was."""
        return BlobStat(self.digest, self.size, self.modified)


class Totals(Struct, frozen=True):
    """What lies packed: blobs, their bytes before and after; those skipped, by reason."""

    blobs: int
    size: int
    packed_size: int
    skipped: dict[str, int]


class Pass(Struct, kw_only=True):
    """One look through the store; times in seconds since the epoch. ``position`` is the last digest that is done."""

    began_at: float
    updated_at: float
    position: str | None = None

    @classmethod
    def new(cls) -> "Pass":
        """Returns one that begins now."""
        now = time.time()
        return cls(began_at=now, updated_at=now)


def _form(row: RowMapping) -> Form:
    values: dict[str, Any] = dict(row)
    packed = values.pop("packed")
    digest = Digest(values.pop("digest"))
    return Form(digest=digest, packed=None if packed is None else Digest(packed), **values)


def _found(db: Connection, *conditions: ColumnElement[bool]) -> list[Form]:
    query = select(forms).where(*conditions).order_by(forms.c.digest)
    return [_form(row) for row in db.execute(query).mappings()]


def _some(db: Connection, *conditions: ColumnElement[bool]) -> list[Form]:
    query = select(forms).where(*conditions).order_by(forms.c.digest).limit(PAGE)
    return [_form(row) for row in db.execute(query).mappings()]


def readable(db: Connection, digest: Digest) -> Form | None:
    """Returns the form in which a blob can be read, or None."""
    found = _found(db, forms.c.digest == digest, forms.c.state.in_(READABLE))
    return found[0] if found else None


def same(db: Connection, form: Form) -> Form | None:
    """Returns a form as it is by now, or None where it is forgotten."""
    found = _found(db, forms.c.id == form.id)
    return found[0] if found else None


def concerning(db: Connection, digest: Digest) -> list[Form]:
    """Returns every form of a blob, and those that a blob is."""
    return _found(db, or_(forms.c.digest == digest, forms.c.packed == digest))


def of_digests(db: Connection, digests: Collection[Digest], states: Sequence[State] = LIVE) -> dict[Digest, Form]:
    """Returns the form in one of ``states``, of which there may be one, of those of ``digests`` that have it."""
    return {form.digest: form for form in _found(db, forms.c.digest.in_(digests), forms.c.state.in_(states))}


def hidden(db: Connection, digests: Collection[Digest]) -> set[str]:
    """Returns those of ``digests`` that are packed forms, and nobody's blobs."""
    query = select(forms.c.packed).where(forms.c.packed.in_(digests)).group_by(forms.c.packed)
    return set(db.scalars(query.having(func.max(case((forms.c.pushed, 1), else_=0)) == 0)))


def between(db: Connection, after: Digest | None, last: Digest | None) -> list[Digest]:
    """Returns the first `PAGE` blobs that are or were packed, in order, behind ``after`` and up to ``last``."""
    query = select(forms.c.digest).where(forms.c.state != "making").group_by(forms.c.digest)
    if after is not None:
        query = query.where(forms.c.digest > after)
    if last is not None:
        query = query.where(forms.c.digest <= last)
    return [Digest(digest) for digest in db.scalars(query.order_by(forms.c.digest).limit(PAGE))]


def known(db: Connection, digests: Collection[Digest], recipe: str) -> set[str]:
    """Returns those of ``digests`` that gain nothing by ``recipe``."""
    return set(db.scalars(select(skipped.c.digest).where(skipped.c.digest.in_(digests), skipped.c.recipe == recipe)))


def skip(db: Connection, digest: Digest, reason: str, recipe: str) -> None:
    """Remembers a blob that gains nothing."""
    db.execute(delete(skipped).where(skipped.c.digest == digest))
    db.execute(insert(skipped).values(digest=digest, reason=reason, recipe=recipe))


def totals(db: Connection) -> Totals:
    """Returns what lies packed."""
    c = forms.c
    blobs, size, packed_size = db.execute(
        select(func.count(), func.sum(c.size), func.sum(c.packed_size)).where(c.state.in_(READABLE))
    ).one()
    reasons = db.execute(select(skipped.c.reason, func.count()).group_by(skipped.c.reason).order_by(skipped.c.reason))
    return Totals(blobs, int(size or 0), int(packed_size or 0), {str(row[0]): int(row[1]) for row in reasons})


def begin(db: Connection, blob: BlobStat, upload: str, algorithm: str, frame_size: int) -> Form | None:
    """Says that a form is being made, and returns it, or None where somebody is at it or was."""
    if _found(db, forms.c.digest == blob.digest, forms.c.state.in_(LIVE)):
        return None
    form = Form(
        id=uuid4().hex,
        digest=blob.digest,
        packed=None,
        upload=upload,
        state="making",
        changed_at=time.time(),
        size=blob.size,
        modified=blob.modified,
        algorithm=algorithm,
        frame_size=frame_size,
        packed_size=0,
        original_left=False,
        pushed=False,
    )
    db.execute(insert(forms).values(asdict(form)))
    return form


def change(db: Connection, form: Form, expected: Sequence[State], **values: Any) -> bool:
    """Changes a form that is in one of the ``expected`` states still; False where it is not."""
    c = forms.c
    statement = update(forms).where(c.id == form.id, c.state.in_(expected)).values(changed_at=time.time(), **values)
    found: Any = db.execute(statement)
    return bool(found.rowcount)


def unsettled(db: Connection, before: float) -> list[Form]:
    """Returns some of what is packed since before ``before`` and whose original may still lie beneath."""
    c = forms.c
    return _some(db, c.state == "packed", c.original_left, c.changed_at <= before)


def in_use(db: Connection, after: Digest | None) -> list[Form]:
    """Returns the first forms that are packed, in order of digest, behind ``after``."""
    behind = [] if after is None else [forms.c.digest > after]
    return _some(db, forms.c.state == "packed", *behind)


def overdue(db: Connection) -> bool:
    """Says whether `recover` has anything to do."""
    return db.execute(select(forms.c.id).where(_overdue()).limit(1)).first() is not None


def recover(db: Connection) -> None:
    """Ends what a process has left that is dead, and forgets what was released long ago."""
    late, state = _overdue(), forms.c.state
    db.execute(delete(forms).where(late, state == "released"))
    db.execute(update(forms).where(late, state == "making").values(state="ending"))
    # What lies beneath by now nobody knows: it is looked at like an original that was pushed again.
    db.execute(update(forms).where(late, state == "moving").values(state="packed", original_left=False))


def _overdue() -> ColumnElement[bool]:
    patience = {"making": ABANDONED_SECONDS, "moving": STUCK_SECONDS, "released": RELEASED_SECONDS}
    now = time.time()
    conditions = [
        and_(forms.c.state == state, forms.c.changed_at <= now - seconds) for state, seconds in patience.items()
    ]
    return or_(*conditions)


def ending(db: Connection) -> list[Form]:
    """Returns some of the forms whose packed blobs have to be removed."""
    return _some(db, forms.c.state == "ending")


class Removed(Struct, frozen=True):
    """What to do beneath where a client deletes a blob: see `remove`."""

    ended: list[Form]
    bytes_too: bool


def remove(db: Connection, digest: Digest) -> Removed | None:
    """Ends the forms of a blob; None where its original is being moved just now, and who deletes has to wait.

    ``ended`` are those whose packed blobs have to be removed; ``bytes_too`` is False where the bytes under the digest
    are the packed form of another blob.
    """
    ended: list[Form] = []
    bytes_too = True
    for form in concerning(db, digest):
        if form.digest == digest and form.state == "moving":
            return None
    for form in concerning(db, digest):
        if form.digest == digest and form.state in ("making", "packed", "ending"):
            change(db, form, LIVE, state="ending")
            ended.append(form)
        if form.packed == digest:
            bytes_too = bytes_too and form.state == "released"
            db.execute(update(forms).where(forms.c.id == form.id).values(pushed=False))
    db.execute(delete(skipped).where(skipped.c.digest == digest))
    return Removed(ended, bytes_too)


def arrive(db: Connection, digest: Digest) -> list[Form]:
    """Notes that a blob is being committed, and returns the forms that are its bytes and now have to stay.

    Raises:
        Unavailable: the bytes are those of a packed form that is being removed.
    """
    mine: list[Form] = []
    for form in concerning(db, digest):
        if form.digest == digest and form.original_left:
            # The bytes that come may be better than what is packed.
            db.execute(update(forms).where(forms.c.id == form.id).values(original_left=False))
        if form.packed == digest and not form.pushed:
            if form.state == "ending":
                message = "what has the same bytes is being removed"
                raise Unavailable(message, digest=str(digest))
            db.execute(update(forms).where(forms.c.id == form.id).values(pushed=True))
            mine.append(form)
    return mine


def depart(db: Connection, arrived: Sequence[Form]) -> None:
    """Takes back `arrive`, of what was then not committed."""
    db.execute(update(forms).where(forms.c.id.in_([form.id for form in arrived])).values(pushed=False))


def load_pass(db: Connection, name: Literal["current", "last"]) -> Pass | None:
    """Returns a pass, or None where there is none."""
    row = db.execute(select(passes).where(passes.c.name == name)).mappings().first()
    return None if row is None else Pass(**{key: value for key, value in row.items() if key != "name"})


def save_pass(db: Connection, pass_: Pass, name: Literal["current", "last"] = "current") -> None:
    """Writes how far a pass has come."""
    pass_.updated_at = time.time()
    db.execute(delete(passes).where(passes.c.name == name))
    db.execute(insert(passes).values(name=name, **asdict(pass_)))


def finish_pass(db: Connection, pass_: Pass) -> None:
    """Makes a pass the last one that was complete."""
    pass_.position = None
    db.execute(delete(passes).where(passes.c.name == "current"))
    save_pass(db, pass_, "last")
