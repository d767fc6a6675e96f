"""Searches: the same as a look at every entry, on both databases, for few and for too many to count."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from drift_bolt import catalog, figures, finding
from drift_bolt.catalog import Draft, File, Summary
from drift_bolt.model import SearchRequest
from drift_bolt.problems import Unknown
from sqlalchemy import Connection

from drift_core.api import Records

FILE = File(
    platform="",
    digest="sha256:0",
    size=1,
    config_digest="sha256:0",
    config_size=1,
    manifest_digest="sha256:0",
    manifest_size=1,
)


def draft(number: int, **changes: Any) -> Draft:
    known: dict[str, Any] = {
        "kind": "profile",
        "name": f"entry-{number}",
        "author": f"author-{number % 3}",
        "description": f"Text {number} of everybody",
        "summary": Summary(tags=("common", f"tag-{number % 7}"), compatible_games=(f"Game {number % 5}",)),
        "document": b"{}",
        "file": FILE,
        "digest": f"sha256:{number}",
        "vendor": ("nvidia", "amd")[number % 2],
    }
    return Draft(**{**known, **changes})


def fill(db: Connection, drafts: Sequence[Draft]) -> None:
    """Publishes without artifacts."""
    for one in drafts:
        version = catalog.reserve(db, one, lambda _: "", may_all=True)
        assert catalog.publish(db, version, one)


async def found(records: Records, **wanted: Any) -> tuple[list[str], int]:
    page = await records.read(partial(finding.search, kind="profile", wanted=SearchRequest(**wanted)))
    return [entry.name for entry in page.entries], page.total


async def test_searches_find_what_a_look_at_everything_finds(records: Records) -> None:
    drafts = [draft(number) for number in range(60)]
    await records.write(partial(fill, drafts=drafts))
    await records.write(partial(fill, drafts=[draft(7, kind="plugin", version="1")]))
    for wanted, meets in (
        ({"query": "TEXT 1"}, lambda one: "text 1" in f"{one.name}\n{one.description}".casefold()),
        ({"query": "y-5"}, lambda one: "y-5" in one.name),
        ({"query": "t 4"}, lambda one: "t 4" in one.description.casefold()),
        ({"author": "R-2"}, lambda one: one.author == "author-2"),
        (
            {"game": "game 3", "tags": ("g-1", "g-2")},
            lambda one: int(one.name[6:]) % 5 == 3 and int(one.name[6:]) % 7 in (1, 2),
        ),
        ({"gpu_vendor": "vid"}, lambda one: one.vendor == "nvidia"),
        ({"query": "none of them"}, lambda _: False),
        ({"query": "%"}, lambda _: False),
        ({"query": "_ext"}, lambda _: False),
        ({"query": 'text "'}, lambda _: False),
        ({"query": "text OR entry"}, lambda _: False),
        ({"tags": ("", "g-6")}, lambda one: int(one.name[6:]) % 7 == 6),
        ({}, lambda _: True),
    ):
        expected = [one.name for one in drafts if meets(one)]
        names, total = await found(records, **wanted, per_page=100, sort_by="created_at", sort_order="asc")
        assert (names, total) == (expected, len(expected)), wanted


async def test_what_too_many_have_is_found_in_the_order_that_was_asked_for(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "FEW", 5)
    monkeypatch.setattr(finding, "LOOKED", 20)
    await records.write(partial(fill, drafts=[draft(number) for number in range(60)]))
    names, total = await found(records, query="everybody", sort_by="created_at", per_page=2, page=2)
    assert (names, total) == (["entry-57", "entry-56"], 20)
    names, total = await found(records, query="everybody", tags=("common",), sort_by="created_at", sort_order="asc")
    assert (names[0], total) == ("entry-0", 20)
    assert await found(records, query="text 33 of", tags=("common",)) == (["entry-33"], 1)
    names, total = await found(records)
    assert total == 60


async def test_lists_and_their_order(records: Records) -> None:
    await records.write(partial(fill, drafts=[draft(number) for number in (3, 1, 2)]))
    page = await records.read(partial(finding.listing, kind="profile", page=None, per_page=None))
    assert [entry.name for entry in page.entries] == ["entry-1", "entry-2", "entry-3"]
    entry = page.entries[1]
    for rater, rating in (("ann", 5.0), ("bob", 4.0)):
        await records.write(partial(figures.rate, entry=entry, rater=rater, rating=rating, comment=None))
    for one in (1, *[2] * 6):
        await records.write(partial(figures.downloaded, entry=page.entries[one].id))
    await records.write(figures.fold)
    assert (await found(records, sort_by="rating"))[0][0] == "entry-2"
    assert (await found(records, sort_by="downloads"))[0][0] == "entry-3"
    best = await records.read(partial(finding.best, kind="profile", most=2))
    assert [one.name for one in best] == ["entry-2", "entry-3"], "a star is worth a hundred downloads"
    assert best[0].rating == 4.5


@pytest.mark.parametrize("asked", [(None, None), (0, 0), (1, 1), (5, 1000), (2, 100)])
def test_pages_are_bounded(asked: tuple[int | None, int | None]) -> None:
    page, size = finding.bounded(*asked)
    assert page >= 1
    assert 1 <= size <= finding.MOST_PER_PAGE


async def test_no_search_scans_the_table(records: Records) -> None:
    """By the plan of each statement: every entry is reached by an index, or in a bounded number."""
    await records.write(partial(fill, drafts=[draft(number) for number in range(30)]))

    def plans(db: Connection) -> list[str]:
        from sqlalchemy import event  # noqa: PLC0415

        statements: list[tuple[str, Any]] = []

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        event.listen(db, "before_cursor_execute", note)
        finding.search(db, "profile", SearchRequest(query="everybody"))
        few = len(statements)
        finding.search(db, "profile", SearchRequest(query="ev", sort_by="rating"))
        finding.search(db, "profile", SearchRequest())
        finding.listing(db, "profile", 2, 10)
        finding.best(db, "profile", 10)
        event.remove(db, "before_cursor_execute", note)
        if db.dialect.name == "postgresql":
            db.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if db.dialect.name == "sqlite" else "EXPLAIN "
        rows = [row for one, values in statements for row in db.exec_driver_sql(explain + one, values).all()]
        if db.dialect.name == "sqlite":
            found = [str(row) for one, values in statements[:few] for row in db.exec_driver_sql(explain + one, values)]
            assert not any("bolt__ix_entries" in line for line in found), "a choice of few is looked up by their ids"
        return [" ".join(map(str, row)) for row in rows]

    for line in await records.read(plans):
        assert "SCAN bolt__entries" not in line, line
        assert "Seq Scan on bolt__entries" not in line, line


async def test_nothing_is_found_by_what_no_database_looks_for(records: Records) -> None:
    await records.write(partial(fill, drafts=[draft(1)]))
    for wanted in ({"query": "te\0xt"}, {"author": "\0"}, {"tags": ["common", "\0"]}, {"game": "\0"}):
        assert await found(records, **wanted) == ([], 0)
    entry = await records.read(partial(catalog.find, kind="profile", name="entry-1"))
    with pytest.raises(Unknown):
        await records.read(partial(catalog.published, entry=entry, version="1.0.0\0"))
    with pytest.raises(Unknown):
        await records.read(partial(catalog.find, kind="profile", name="entry-1\0"))
