"""Pages of lists: exact wherever they lie, at the cost of the first one, and after changes of all kinds."""

import random
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from drift_bolt import blocks, catalog, finding, tables
from drift_bolt.model import SearchRequest
from drift_bolt.problems import Invalid
from sqlalchemy import Connection, event, insert, select

from drift_core.api import Records

from .test_finding import draft, fill

NAMES = [f"n{number:02}" for number in range(30)]


def names(db: Connection, size: int = 7) -> list[str]:
    """Returns all names, page by page."""
    found: list[str] = []
    page = 1
    while more := finding.listing(db, "profile", page, size).entries:
        found += [entry.name for entry in more]
        page += 1
    return found


def counted(db: Connection) -> list[int]:
    mine = tables.blocks.c.kind == "profile"
    return list(db.execute(select(tables.blocks.c.entries).where(mine).order_by(tables.blocks.c.first)).scalars())


def list_names(db: Connection, wanted: Sequence[str]) -> None:
    """Lists entries without anything that is published."""
    nothing: dict[str, Any] = {column.name: "" for column in tables.entries.c if str(column.type) == "TEXT"}
    nothing |= dict.fromkeys(("number", "made", "downloads", "rating_count"), 0)
    nothing |= dict.fromkeys(("created_at", "updated_at", "rating", "rating_sum", "score"), 0.0)
    nothing |= {"kind": "profile", "author": "ann", "listed": True, "version": "1.0.0", "summary": "{}"}
    db.execute(insert(tables.entries), [{**nothing, "name": name} for name in wanted])


async def test_pages_are_those_of_all_names_after_any_changes(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are split, emptied and filled again meanwhile; another kind has its own."""
    monkeypatch.setattr(blocks, "LARGEST", 4)
    chance, there = random.Random(7), set[str]()
    await records.write(partial(fill, drafts=[draft(number, kind="plugin", version="1") for number in range(3)]))

    def change(db: Connection, changed: Sequence[str]) -> None:
        for name in changed:
            if name in there:
                assert catalog.forget(db, "profile", name, None) == 1
            else:
                fill(db, [draft(1, name=name)])
            there.symmetric_difference_update([name])

    for step in range(12):
        changed = chance.sample(NAMES, 10) if step < 9 else sorted(there)[: 12 if step < 11 else None]
        await records.write(partial(change, changed=changed))
        assert await records.read(names) == sorted(there), step
        sizes = await records.read(counted)
        assert sum(sizes) == len(there)
        assert max(sizes) <= 4
    assert (there, sizes) == (set(), [0])


async def test_a_page_far_behind_reads_no_more_than_the_first(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the offset of the statement, which is what a database walks over."""
    monkeypatch.setattr(blocks, "LARGEST", 16)

    def offsets(db: Connection) -> list[int]:
        for number in range(200):
            list_names(db, [f"n{number * 7919 % 1000:03}"])
            blocks.count(db, "profile", f"n{number * 7919 % 1000:03}", 1)
        found: list[int] = []

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "bolt__entries.name >=" in statement:
                values = parameters.values() if isinstance(parameters, dict) else parameters
                found.append(max(value for value in values if isinstance(value, int)))

        event.listen(db, "before_cursor_execute", note)
        for page in (1, 10, 19, 20, 10_000):
            finding.listing(db, "profile", page, 10)
        event.remove(db, "before_cursor_execute", note)
        return found

    found = await records.write(offsets)
    assert len(found) == 4, "of a page behind all names nothing is read"
    assert max(found) <= 16


async def test_what_is_listed_already_is_counted_when_the_blocks_are_made(records: Records) -> None:
    """By the migration itself, on tables as they were before."""
    migration: Any = import_module("drift_bolt.migrations.0002_blocks")
    every = [f"m{number:04}" for number in range(1_100)]
    package = {
        "repository": "games/arena",
        "tag": "v1",
        "digest": "sha256:1",
        "text": "",
        "proton": True,
        "tier": "Quality",
        "vendors": "",
        "tagged_at": 1.0,
        "document": '{"gaming": {"is_game": false, "proton_versions": ["9.0", "8.0\\u0000"]}}',
    }

    def migrate(db: Connection) -> tuple[list[str], list[int], Any]:
        list_names(db, every)
        with Operations.context(MigrationContext.configure(db)) as op:
            op.drop_table("bolt__blocks")
            op.drop_column("bolt__packages", "is_game")
            op.drop_column("bolt__packages", "protons")
            older = [column for column in tables.packages.c if column.name in package]
            db.execute(insert(tables.packages).values({column: package[column.name] for column in older}))
            migration.upgrade()
        columns = tables.packages.c.is_game, tables.packages.c.protons
        return names(db, 100), counted(db), db.execute(select(*columns)).one()

    found, sizes, described = await records.write(migrate)
    assert found == every
    assert sizes == [500, 500, 100]
    assert (bool(described[0]), described[1]) == (False, "\n9.0\n\n8.0\n")


async def test_a_search_for_everything_ends_somewhere(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "WINDOW", 20)
    await records.write(partial(fill, drafts=[draft(number) for number in range(30)]))

    for page, expected in ((2, (10, 30)), (4, (0, 30))):
        wanted = SearchRequest(page=page, per_page=10)
        found = await records.read(partial(finding.search, kind="profile", wanted=wanted))
        assert (len(found.entries), found.total) == expected
    wanted = SearchRequest(page=3, per_page=10, sort_by="rating")
    with pytest.raises(Invalid, match="first 20 entries") as error:
        await records.read(partial(finding.search, kind="profile", wanted=wanted))
    assert error.value.detail == {"last_page": 2}
