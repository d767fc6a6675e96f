"""What a page asks of the database does not grow with what the registry holds: by SQLite's own count of its steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from drift_ui import indexing
from drift_ui.finding import Finding
from drift_ui.indexing import Image
from drift_ui.permitting import Permitting
from drift_ui.querying import read_query
from sqlalchemy import Connection, event

from drift_core.api import Records
from drift_core.conformance import access_by, open_records

T = TypeVar("T")

FEW, MANY = 60, 600
TAGS = 1
STEPS = 5
"""Instructions of SQLite's machine between two looks at how many there were."""

MOST = 3.0
"""How many times as much a page may cost in the large registry."""


class Counted:
    """Records that count the steps of SQLite's machine in every query."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.steps = 0

    async def read(self, query: Callable[[Any], T]) -> T:
        def run(db: Connection) -> T:
            connection = db.connection.driver_connection
            assert connection is not None
            connection.set_progress_handler(self._step, STEPS)
            try:
                return query(db)
            finally:
                connection.set_progress_handler(None, 0)

        return await self._records.read(run)

    def _step(self) -> int:
        self.steps += 1
        return 0


def image_of(number: int, tag: int) -> Image:
    digest = f"sha256:{number:060x}{tag:04x}"
    labels = {"env": "prod" if number % 10 == 0 else "test"}
    return Image(
        f"v{tag}", digest, "m", "", number * 1000 + tag, "linux/amd64", number + tag / 10, "ann", False, labels
    )


async def fill(records: Records, count: int) -> None:
    def keep(db: Connection, start: int) -> None:
        for number in range(start, min(start + 100, count)):
            # Words that many names share, and one that only this name has.
            name = f"team{number % 2}/service-{number:05}"
            indexing.keep(
                db, name, [image_of(number, tag) for tag in range(TAGS)], (), event=number + 1, at=float(number)
            )

    for start in range(0, count, 100):
        await records.write(partial(keep, start=start))


PAGES: dict[str, Callable[[Finding], Any]] = {
    "totals": lambda finding: finding.totals(),
    "days": lambda finding: finding.days("", 0),
    "newest": lambda finding: finding.newest(None, 15),
    "tags": lambda finding: finding.tags("team1/service-00003", ""),
    **{
        f"repositories by {sort}": partial(lambda sort, finding: finding.repositories(None, sort, "", ""), sort)
        for sort in ("name", "updated", "size", "pulls")
    },
    "repositories that begin": lambda finding: finding.repositories(None, "name", "team", ""),
    "a later page": lambda finding: finding.repositories(None, "updated", "", "30.0 team0/service-00030"),
    **{
        f"search {text}": partial(lambda text, finding: finding.search(None, read_query(text)), text)
        for text in (
            "service-00003",
            "servise-00003",
            "service 00003",
            "digest:sha256:" + f"{3:060x}",
            "layer:" + f"{3:060x}",
            "repo:team1/service-00003",
            "00003 tag:v1",
        )
    },
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def costs(count: int) -> dict[str, int]:
    found: dict[str, int] = {}
    async with open_records("ui", "drift_ui.migrations") as records:
        await fill(records, count)
        counted = Counted(records)
        finding = Finding(counted, Permitting(access_by()))  # type: ignore[arg-type]
        for name, ask in PAGES.items():
            counted.steps = 0
            await ask(finding)
            found[name] = counted.steps
    return found


class Explained:
    """Records that ask SQLite how it answers every query."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.plans: list[str] = []

    async def read(self, query: Callable[[Any], T]) -> T:
        def run(db: Connection) -> T:
            asked: list[tuple[str, Any]] = []

            def note(*arguments: Any) -> None:
                asked.append(arguments[2:4])

            event.listen(db, "before_cursor_execute", note)
            try:
                found = query(db)
            finally:
                event.remove(db, "before_cursor_execute", note)
            for statement, values in asked:
                rows = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                self.plans += [row.detail for row in rows]
            return found

        return await self._records.read(run)


async def test_no_page_reads_a_table_from_end_to_end() -> None:
    async with open_records("ui", "drift_ui.migrations") as records:
        await fill(records, FEW)
        for name, ask in PAGES.items():
            explained = Explained(records)
            await ask(Finding(explained, Permitting(access_by())))  # type: ignore[arg-type]
            assert explained.plans, name
            # What goes along an index ends with the page; the sums of all are one row.
            scans = [plan for plan in explained.plans if plan.startswith("SCAN ui__") and " USING " not in plan]
            assert scans == (["SCAN ui__totals"] if name == "totals" else []), (name, explained.plans)


async def test_pages_cost_as_much_with_many_repositories() -> None:
    few, many = await costs(FEW), await costs(MANY)
    assert min(few.values()) > 0
    ratios = {name: round(many[name] / few[name], 2) for name in PAGES}
    assert {name: ratio for name, ratio in ratios.items() if ratio > MOST} == {}, (few, many)
