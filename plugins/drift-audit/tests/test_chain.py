"""The chain shows what was done to it: by somebody who can write to the database, and has the key or not."""

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from drift_audit import verification
from drift_audit.auditor import AuditTrail
from drift_audit.chain import BEGINNING, Key, append, end_of, move_end
from drift_audit.config import FileExport
from drift_audit.record import Record, StoredRecord, decoded, encoded, record_of
from drift_audit.retention import BrokenChainError, purge
from drift_audit.tables import ends, sinks
from drift_audit.tables import records as rows
from drift_audit.verification import Anchor, Broken, Verification
from msgspec import structs
from sqlalchemy import Connection, delete, func, insert, select, update

from drift_core.api import AuditEvent, Records, StartError, Unavailable

OpenTrail = Callable[..., AbstractAsyncContextManager[AuditTrail]]
Verify = Callable[..., Awaitable[Broken | None]]
Read = Callable[[], Awaitable[list[StoredRecord]]]

COUNT = 10
FORGED = Key(None)


def event(number: int) -> AuditEvent:
    return AuditEvent(type="ImagePushed", resource_type="Image", resource_id=f"team/app{number}")


async def fill(trail: AuditTrail, count: int = COUNT) -> None:
    """Records events until there are ``count``: the service has started, too."""
    while (end := await trail.records.read(lambda db: end_of(db, "last"))) is None or end.sequence < count:
        await trail.note(event(0 if end is None else end.sequence))


def remove(db: Connection) -> None:
    db.execute(delete(rows).where(rows.c.sequence == 5))


def remove_and_close_up(db: Connection) -> None:
    remove(db)
    for sequence in range(6, COUNT + 1):
        db.execute(update(rows).where(rows.c.sequence == sequence).values(sequence=sequence - 1))


def change(db: Connection) -> None:
    content = db.execute(select(rows.c.content).where(rows.c.sequence == 5)).scalar_one()
    changed = content.replace(b'"success":true', b'"success":false')
    db.execute(update(rows).where(rows.c.sequence == 5).values(content=changed, success=False))


def change_with_hash(db: Connection) -> None:
    change(db)
    content, previous = db.execute(select(rows.c.content, rows.c.previous).where(rows.c.sequence == 5)).one()
    db.execute(update(rows).where(rows.c.sequence == 5).values(hash=FORGED.hash(previous, content)))


def change_column(db: Connection) -> None:
    db.execute(update(rows).where(rows.c.sequence == 5).values(username="mallory"))


def ruin(db: Connection) -> None:
    db.execute(update(rows).where(rows.c.sequence == 5).values(content=b"{}"))


def swap(db: Connection) -> None:
    for old, new in ((5, 99), (6, 5), (99, 6)):
        db.execute(update(rows).where(rows.c.sequence == old).values(sequence=new))


def truncate(db: Connection) -> None:
    db.execute(delete(rows).where(rows.c.sequence > 5))


def empty(db: Connection) -> None:
    db.execute(delete(rows))


def truncate_and_set_back(db: Connection) -> None:
    truncate(db)
    hash_ = db.execute(select(rows.c.hash).where(rows.c.sequence == 5)).scalar_one()
    move_end(db, FORGED, "last", 5, hash_)


def forget_end(db: Connection) -> None:
    db.execute(delete(ends))


def rebuild(db: Connection) -> None:
    """Writes the chain anew without record 5, as who has no key would."""
    contents = db.execute(select(rows.c.content).where(rows.c.sequence != 5).order_by(rows.c.sequence)).scalars().all()
    found = [dict(row) for row in db.execute(select(rows).where(rows.c.sequence != 5)).mappings()]
    db.execute(delete(rows))
    previous = BEGINNING
    for sequence, (row, content) in enumerate(zip(found, contents, strict=True), 1):
        new = content.replace(b'{"sequence":%d,' % row["sequence"], b'{"sequence":%d,' % sequence)
        hash_ = FORGED.hash(previous, new)
        db.execute(
            insert(rows).values({**row, "sequence": sequence, "content": new, "previous": previous, "hash": hash_})
        )
        previous = hash_
    move_end(db, FORGED, "last", COUNT - 1, previous)


def pretend_age(db: Connection) -> None:
    """Removes the oldest records, and claims that they were too old."""
    hash_ = db.execute(select(rows.c.hash).where(rows.c.sequence == 5)).scalar_one()
    db.execute(delete(rows).where(rows.c.sequence <= 5))
    move_end(db, FORGED, "first", 5, hash_)


def add_behind(db: Connection) -> None:
    row = dict(db.execute(select(rows).where(rows.c.sequence == 5)).mappings().one())
    db.execute(insert(rows).values({**row, "sequence": COUNT + 1}))


ATTACKS = [
    (remove, "removed", 5),
    (remove_and_close_up, "reordered", 5),
    (change, "changed", 5),
    (change_with_hash, "changed", 5),
    (change_column, "changed", 5),
    (ruin, "changed", 5),
    (swap, "reordered", 5),
    (truncate, "truncated", 6),
    (empty, "truncated", 1),
    (forget_end, "truncated", 10),
    (add_behind, "changed", 11),
]
WITHOUT_KEY = [
    (truncate_and_set_back, "changed", 5),
    (rebuild, "changed", 9),
    (pretend_age, "removed", 5),
]


@pytest.mark.parametrize("batch", [3, 1000])
@pytest.mark.parametrize("key_file", ["key", None])
@pytest.mark.parametrize(("attack", "kind", "sequence"), ATTACKS, ids=lambda value: getattr(value, "__name__", None))
async def test_an_attack_shows(
    open_trail: OpenTrail,
    verify: Verify,
    records: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Connection], None],
    kind: str,
    sequence: int,
    key_file: str | None,
    batch: int,
) -> None:
    monkeypatch.setattr(verification, "BATCH", batch)
    async with open_trail(key_file=key_file and str(tmp_path / key_file)) as trail:
        await fill(trail)
        assert await verify(trail) is None
        await records.write(attack)
        broken = await verify(trail)
        assert broken is not None
        assert (broken.kind, broken.sequence) == (kind, sequence)
        # Leave it in order: the trail says at its end that the service stops.
        await records.write(lambda db: db.execute(delete(rows)).rowcount)


@pytest.mark.parametrize(
    ("attack", "kind", "sequence"), WITHOUT_KEY, ids=lambda value: getattr(value, "__name__", None)
)
async def test_who_has_no_key_cannot_make_a_chain(
    open_trail: OpenTrail,
    verify: Verify,
    records: Records,
    tmp_path: Path,
    attack: Callable[[Connection], None],
    kind: str,
    sequence: int,
) -> None:
    async with open_trail(key_file=str(tmp_path / "key")) as trail:
        await fill(trail)
        await records.write(attack)
        broken = await verify(trail)
        assert broken is not None
        assert (broken.kind, broken.sequence) == (kind, sequence)


@pytest.mark.parametrize("attack", [attack for attack, _, _ in WITHOUT_KEY[:2]])
async def test_without_a_key_only_an_anchor_shows_a_chain_that_was_made_anew(
    open_trail: OpenTrail, verify: Verify, records: Records, attack: Callable[[Connection], None]
) -> None:
    async with open_trail() as trail:
        await fill(trail)
        end = await records.read(lambda db: end_of(db, "last"))
        assert end is not None
        anchor = Anchor(end.sequence, end.hash)
        assert await verify(trail, anchor=anchor) is None
        await records.write(attack)
        assert await verify(trail) is None
        assert (await verify(trail, anchor=anchor)) is not None


async def test_an_anchor_that_was_passed_is_met_again(open_trail: OpenTrail, verify: Verify, records: Records) -> None:
    async with open_trail() as trail:
        await fill(trail)
        hash_ = await records.read(lambda db: db.execute(select(rows.c.hash).where(rows.c.sequence == 4)).scalar_one())
        assert await verify(trail, anchor=Anchor(4, hash_)) is None
        broken = await verify(trail, anchor=Anchor(4, bytes(32)))
        assert broken is not None
        assert (broken.kind, broken.sequence) == ("changed", 4)


async def test_a_start_trusts_what_is_before_it(open_trail: OpenTrail, verify: Verify, records: Records) -> None:
    async with open_trail() as trail:
        await fill(trail)
        await records.write(change)
        assert await verify(trail, 6) is None
        for start in (2, 5):
            broken = await verify(trail, start)
            assert broken is not None
            assert broken.sequence == 5


async def fill_by_age(trail: AuditTrail, old: int) -> None:
    """Records `COUNT` events, the first ``old`` of them two days ago."""
    now = [record_of(event(number), None) for number in range(COUNT)]
    then = datetime.now(UTC) - timedelta(days=2)
    aged = [structs.replace(record, timestamp=then) for record in now[:old]]
    await trail.records.write(lambda db: append(db, trail.key, aged + now[old:]))


async def test_what_was_removed_for_its_age_is_no_gap(
    open_trail: OpenTrail, verify: Verify, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_audit.retention.BATCH", 3)
    async with open_trail(key_file=str(tmp_path / "key"), enabled_event_types=("ImagePushed",)) as trail:
        await fill_by_age(trail, 7)
        removed = [await records.write(lambda db: purge(db, trail.key, 1, ())) for _ in range(4)]
        assert removed == [3, 3, 1, 0]
        assert await verify(trail) is None
        assert await verify(trail, 2) is None
        await records.write(lambda db: db.execute(delete(rows).where(rows.c.sequence == 8)).rowcount)
        broken = await verify(trail)
        assert broken == Broken(8, "removed", "the next record that is there is 9")


async def test_a_purge_leaves_what_a_sink_has_not_taken(open_trail: OpenTrail, records: Records) -> None:
    async with open_trail(enabled_event_types=("ImagePushed",)) as trail:
        await fill_by_age(trail, COUNT)
        await records.write(lambda db: db.execute(insert(sinks).values(name="file", position=4, held_until=0)).rowcount)
        assert await records.write(lambda db: purge(db, trail.key, 1, ("file",))) == 4
        assert await records.write(lambda db: purge(db, trail.key, 1, ("file",))) == 0
        assert await records.write(lambda db: purge(db, trail.key, 1, ())) == COUNT - 4


def pretend_old(db: Connection) -> None:
    db.execute(update(rows).where(rows.c.sequence <= 5).values(at=0))


def pretend_old_in_content(db: Connection) -> None:
    content, previous = db.execute(select(rows.c.content, rows.c.previous).where(rows.c.sequence == 1)).one()
    record = decoded(content)
    old = Record(**{name: getattr(record, name) for name in Record.__struct_fields__})
    new = encoded(structs.replace(old, timestamp=datetime(1970, 1, 1, tzinfo=UTC)), 1)
    values = {"at": 0, "content": new, "hash": FORGED.hash(previous, new)}
    db.execute(update(rows).where(rows.c.sequence == 1).values(values))


@pytest.mark.parametrize(
    "attack",
    [pretend_old, pretend_old_in_content, remove, pretend_age, truncate_and_set_back, forget_end],
)
async def test_a_purge_hides_no_attack(
    open_trail: OpenTrail,
    verify: Verify,
    records: Records,
    tmp_path: Path,
    attack: Callable[[Connection], None],
) -> None:
    async with open_trail(key_file=str(tmp_path / "key"), enabled_event_types=("ImagePushed",)) as trail:
        await fill_by_age(trail, 0 if "old" in attack.__name__ else COUNT)
        await records.write(attack)
        count = select(func.count()).select_from(rows)
        before = await records.read(lambda db: db.execute(count).scalar_one())
        with pytest.raises(BrokenChainError):
            await records.write(lambda db: purge(db, trail.key, 1, ()))
        assert await records.read(lambda db: db.execute(count).scalar_one()) == before
        assert await verify(trail) is not None


async def test_a_server_does_not_seal_an_end_that_was_set_back(
    open_trail: OpenTrail, verify: Verify, records: Records, tmp_path: Path
) -> None:
    async with open_trail(key_file=str(tmp_path / "key")) as trail:
        await fill(trail)
        await records.write(truncate_and_set_back)
        with pytest.raises(Unavailable, match="somebody without the key"):
            await trail.note(event(1))
        with pytest.raises(Unavailable, match="somebody without the key"):
            await records.write(lambda db: trail.record(db, event(1)))
        assert await verify(trail) is not None


def forget_all(db: Connection) -> None:
    empty(db)
    forget_end(db)


def forget_all_and_positions(db: Connection) -> None:
    forget_all(db)
    db.execute(update(sinks).values(position=0))


def forget_last(db: Connection) -> None:
    empty(db)
    db.execute(delete(ends).where(ends.c.name == "last"))
    db.execute(update(sinks).values(position=0))


@pytest.mark.parametrize(
    ("attack", "keyed"),
    [
        (forget_all, True),
        (forget_all, False),
        (forget_all_and_positions, True),
        (forget_last, False),
        (forget_end, False),
    ],
)
async def test_a_trail_that_was_wiped_does_not_begin_by_itself(
    open_trail: OpenTrail,
    verify: Verify,
    read: Read,
    records: Records,
    tmp_path: Path,
    attack: Callable[[Connection], None],
    keyed: bool,
) -> None:
    keys = {"key_file": str(tmp_path / "key") if keyed else None, "file_export": FileExport(path=str(tmp_path / "a"))}
    async with open_trail(**keys) as trail:
        await fill(trail)
    await records.write(lambda db: db.execute(update(sinks).values(position=COUNT)).rowcount)
    await records.write(attack)
    for _ in range(2):
        with pytest.raises(StartError, match="the trail is gone"):
            async with open_trail(**keys):
                pass
    async with open_trail(**keys, begin_anew=True) as trail:
        assert await verify(trail) is None
        await trail.note(event(1))
        oldest = (await read())[0]
        assert oldest.sequence == 1
        file = tmp_path / "a"
        deadline = time.monotonic() + 10
        while not file.exists() or oldest.id not in file.read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_trail_whose_ends_are_gone_is_not_whole(
    open_trail: OpenTrail, verify: Verify, records: Records
) -> None:
    async with open_trail() as trail:
        await fill(trail)
        await records.write(forget_all)
        broken = await verify(trail)
        assert broken is not None
        assert broken.kind == "truncated"


async def test_the_anchor_of_an_empty_trail_is_met(open_trail: OpenTrail) -> None:
    async with open_trail(enabled_event_types=("ImagePushed",)) as trail:
        assert Verification(trail.records, trail.key, None, Anchor(0, BEGINNING)).anchored
        assert not Verification(trail.records, trail.key, None, Anchor(0, bytes([1] * 32))).anchored


async def test_a_key_that_was_made_elsewhere_begins_a_trail_when_told_to(
    open_trail: OpenTrail, verify: Verify, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(bytes(range(32)))
    with pytest.raises(StartError, match="begin_anew"):
        async with open_trail(key_file=str(file)):
            pass
    async with open_trail(key_file=str(file), begin_anew=True) as trail:
        await fill(trail)
    # Where a trail is there, it begins none.
    async with open_trail(key_file=str(file), begin_anew=True) as trail:
        end = await trail.records.read(lambda db: end_of(db, "last"))
        assert end is not None
        assert end.sequence > COUNT
        assert await verify(trail) is None


async def test_the_key_is_made_once_and_for_its_owner(open_trail: OpenTrail, tmp_path: Path) -> None:
    file = tmp_path / "key"
    async with open_trail(key_file=str(file)):
        key = file.read_bytes()
    async with open_trail(key_file=str(file)):
        assert file.read_bytes() == key
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]  # noqa: PTH208 - nobody waits here


@pytest.mark.parametrize("other", ["", "other"])
@pytest.mark.parametrize("first", ["", "key"])
async def test_another_key_does_not_go_on_with_a_chain(
    open_trail: OpenTrail, tmp_path: Path, first: str, other: str
) -> None:
    def named(name: str) -> str | None:
        return str(tmp_path / name) if name else None

    async with open_trail(key_file=named(first)):
        pass
    if first == other:
        async with open_trail(key_file=named(other)):
            return
    with pytest.raises(StartError, match=r"audit\.key_file: (the trail was begun|.*other: No such file)"):
        async with open_trail(key_file=named(other)):
            pass


async def test_a_key_that_is_too_short_or_cannot_be_read_is_refused(open_trail: OpenTrail, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"secret")
    for file, reason in ((short, "has 6 bytes"), (tmp_path / "no" / "key", "No such file")):
        with pytest.raises(StartError, match=reason):
            async with open_trail(key_file=str(file), begin_anew=True):
                pass


async def test_a_trail_without_its_end_takes_nothing(open_trail: OpenTrail, records: Records) -> None:
    async with open_trail() as trail:
        await fill(trail)
        await records.write(forget_end)
        with pytest.raises(Unavailable, match="has lost its end"):
            await trail.note(event(1))
