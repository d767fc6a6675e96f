"""Several nodes on one PostgreSQL: nothing is lost between them, and what fails is told as something to try again."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial

import msgspec
import psycopg
import pytest
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import IntegrityError

from drift_core.config import load
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore
from drift_core.errors import (
    BlobInUse,
    DatabaseTooNew,
    ManifestBlobUnknown,
    PreconditionFailed,
    StartError,
    Unavailable,
)
from drift_core.metadata import queries
from drift_core.metadata.database import Database, create_engine, open_database
from drift_core.metadata.locks import exclusive, shared
from drift_core.metadata.migrations import migrate
from drift_core.metadata.postgresql import Settings
from drift_core.metrics import Metrics
from drift_core.model import Digest
from drift_core.registry.blobs import Blobs
from drift_core.registry.changes import Changes
from drift_core.registry.manifests import Condition, Manifests, Pushed
from drift_core.runtime import rules_of
from drift_core.trail import Trail
from tests.services.postgresql import Postgresql

pytestmark = pytest.mark.anyio

RULES = msgspec.structs.replace(rules_of(load(None, {}, ())), sparse_manifests=True)
STRICT = msgspec.structs.replace(RULES, sparse_manifests=False)
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


@pytest.fixture
def url(server: Postgresql) -> str:
    url = server.url(server.new_database())
    migrate(url)
    return url


@pytest.fixture
async def nodes(url: str) -> AsyncIterator[tuple[Database, Database]]:
    async with open_database(url) as one, open_database(url) as other:
        yield one, other


def manifests_of(database: Database) -> Manifests:
    changes = Changes([], frozenset(), 5.0, Metrics(), Trail())
    return Manifests(database, RULES, changes, Metrics())


def index(number: int) -> bytes:
    return f'{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"annotations":{{"n":"{number}"}}}}'.encode()


def image(number: int) -> tuple[bytes, Digest]:
    """Returns a manifest and the digest of the one blob that it names, which has 2 bytes."""
    digest = Digest.of(f"blob {number}".encode())
    blob = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(digest), "size": 2}
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": IMAGE, "config": blob, "layers": [blob]}), digest


async def push(manifests: Manifests, number: int, tag: str, condition: Condition) -> None:
    await manifests.put("shared/app", index(number), INDEX, None, [tag], None, condition)


def test_nodes_that_start_at_once_make_the_tables_once(server: Postgresql) -> None:
    url = server.url(server.new_database())
    with ThreadPoolExecutor(6) as starting:
        list(starting.map(migrate, [url] * 6))
    engine = create_engine(url)
    with engine.connect() as connection:
        assert queries.repository_names(connection, "", 1) == []
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused_without_its_password(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    secret = make_url(url).set(password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(DatabaseTooNew, match="9999") as refused:
        migrate(secret)
    assert "hunter2" not in str(refused.value)


def test_a_server_that_is_not_there_is_named(server: Postgresql) -> None:
    url = server.url("missing").replace(f":{server.port}/", ":1/")
    with pytest.raises(StartError, match="cannot be used"):
        migrate(url)


async def test_a_change_of_one_node_is_seen_by_the_other_at_its_next_look(nodes: tuple[Database, Database]) -> None:
    here, there = nodes
    before = there.version()
    for number in range(200):
        await here.write(partial(queries.ensure_repository, name=f"r{number}"))
        await there.look()
        assert there.version() != before
        before = there.version()
    await there.look()
    assert there.version() == before


async def test_a_look_that_began_before_is_not_shared(nodes: tuple[Database, Database]) -> None:
    here, there = nodes

    async def written_then_looked(number: int) -> None:
        before = there.version()
        await here.write(partial(queries.ensure_repository, name=f"r{number}"))
        await there.look()
        assert there.version() != before

    await asyncio.gather(*(written_then_looked(number) for number in range(100)))


async def test_pushes_race_and_none_is_lost(nodes: tuple[Database, Database]) -> None:
    one, other = (manifests_of(node) for node in nodes)
    free = Condition(if_none_match=frozenset("*"))
    await asyncio.gather(
        *(push(node, number, f"t{number}", free) for number in range(60) for node in (one, other)),
        return_exceptions=True,
    )
    tags = await nodes[0].read(lambda db: queries.tag_names(db, queries.ensure_repository(db, "shared/app"), "", 100))
    assert tags == sorted(f"t{number}" for number in range(60))


async def test_of_pushes_that_expect_the_same_state_one_wins(nodes: tuple[Database, Database]) -> None:
    every = [manifests_of(node) for node in nodes]
    expected = Condition(if_none_match=frozenset("*"))
    for round_ in range(20):
        racing = [push(every[number % 2], 10 * round_ + number, "latest", expected) for number in range(8)]
        outcomes = await asyncio.gather(*racing, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert all(isinstance(outcome, PreconditionFailed) for outcome in outcomes if outcome is not None)
        current = Digest.of(index(10 * round_ + outcomes.index(None)))
        expected = Condition(if_match=frozenset([current]))


async def test_what_a_push_relies_on_is_not_deleted_beside_it(nodes: tuple[Database, Database]) -> None:
    changes = Changes([], frozenset(), 5.0, Metrics(), Trail())
    strict = Manifests(nodes[0], STRICT, changes, Metrics())
    blobs = Blobs(nodes[1], MemoryStore(MemoryPlace()), RULES, changes, Metrics())
    outcomes = set()
    for number in range(60):
        content, digest = image(number)
        await nodes[0].write(partial(queries.link_blob, repository="shared/app", digest=digest, size=2))
        pushing = strict.put("shared/app", content, IMAGE, None, [], None)
        pushed, deleted = await asyncio.gather(
            pushing, blobs.delete("shared/app", digest, None), return_exceptions=True
        )
        assert isinstance(pushed, Pushed | ManifestBlobUnknown)
        assert deleted is None or isinstance(deleted, BlobInUse)
        assert isinstance(pushed, Pushed) == isinstance(deleted, BlobInUse)
        outcomes.add(type(pushed))
    assert outcomes == {Pushed, ManifestBlobUnknown}


async def test_what_a_plugin_violates_is_its_own(nodes: tuple[Database, Database]) -> None:
    def twice(db: Connection) -> None:
        for _ in range(2):
            db.exec_driver_sql("INSERT INTO repositories (name, created_at) VALUES ('twice', 0)")

    with pytest.raises(IntegrityError):
        await nodes[0].write(twice, alone=True)
    assert await nodes[1].read(lambda db: queries.repository_names(db, "", 9)) == []


async def test_a_deadlock_is_tried_again(nodes: tuple[Database, Database]) -> None:
    both_hold_one = threading.Barrier(2)
    attempts: list[str] = []

    def change(db: Connection, first: str, second: str) -> None:
        attempts.append(first)
        exclusive(db, first)
        if len(attempts) <= 2:
            both_hold_one.wait(10)
        exclusive(db, second)
        queries.ensure_repository(db, f"{first}-{second}")

    await asyncio.gather(
        nodes[0].write(partial(change, first="a", second="b")), nodes[1].write(partial(change, first="b", second="a"))
    )
    assert await nodes[0].read(lambda db: queries.repository_names(db, "", 9)) == ["a-b", "b-a"]
    assert len(attempts) == 3


async def test_locks_exclude_and_are_let_go_with_the_transaction(nodes: tuple[Database, Database]) -> None:
    held, may_end, order = threading.Event(), threading.Event(), list[str]()

    def hold(take: Callable[[Connection, str], None], name: str, db: Connection) -> None:
        take(db, "door")
        order.append(name)
        if name == "first":
            held.set()
            may_end.wait(10)

    first = asyncio.create_task(nodes[0].write(partial(hold, shared, "first")))
    await asyncio.to_thread(held.wait, 10)
    await nodes[1].write(partial(hold, shared, "beside"))
    last = asyncio.create_task(nodes[1].write(partial(hold, exclusive, "alone")))
    await asyncio.sleep(0.2)
    assert order == ["first", "beside"]
    may_end.set()
    await asyncio.gather(first, last)
    assert order == ["first", "beside", "alone"]


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    async with open_database(url, Settings(statement_seconds=0.5)) as database:
        with pytest.raises(Unavailable):
            await database.read(lambda db: db.exec_driver_sql("SELECT pg_sleep(60)"))
        with pytest.raises(Unavailable):
            await database.write(lambda db: db.exec_driver_sql("SELECT pg_sleep(60)"))
        await database.check()


async def test_a_transaction_that_does_nothing_is_ended(url: str) -> None:
    """A process that is stopped within a change keeps others waiting no longer than a statement may take."""
    async with open_database(url, Settings(statement_seconds=0.5)) as paused, open_database(url) as other:
        blocked = threading.Event()

        def pause(db: Connection) -> None:
            exclusive(db, "door")
            if not blocked.is_set():
                blocked.set()
                time.sleep(1.5)
            queries.ensure_repository(db, "late")

        task = asyncio.create_task(paused.write(pause))
        await asyncio.to_thread(blocked.wait, 10)
        await other.write(partial(exclusive, name="door"))
        assert await other.read(lambda db: queries.repository_names(db, "", 9)) == []
        await task
        assert await other.read(lambda db: queries.repository_names(db, "", 9)) == ["late"]


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_server_that_comes_back_is_waited_for(server: Postgresql, url: str, how: str) -> None:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(url))
        await database.write(partial(queries.ensure_repository, name="before"))
        await database.look()
        if how == "restart":
            await asyncio.to_thread(server.restart)
        else:
            server.kill()
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await database.look()
            await starting
        await database.look()
        await database.write(partial(queries.ensure_repository, name="after"))
        assert await database.read(lambda db: queries.repository_names(db, "", 9)) == ["after", "before"]


async def test_a_server_that_is_silent_is_given_up(server: Postgresql, url: str) -> None:
    async with open_database(url, Settings(statement_seconds=1.0)) as database:
        await database.look()
        server.pause()
        try:
            async with asyncio.timeout(60):
                with pytest.raises(Unavailable):
                    await database.look()
                with pytest.raises(Unavailable):
                    await database.look()
        finally:
            server.resume()
        await database.look()
        await database.check()


async def test_a_process_that_ends_while_it_connects_leaves_no_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[psycopg.AsyncConnection] = []
    asked = asyncio.Event()

    async def execute(connection: psycopg.AsyncConnection, *_: object) -> None:
        made.append(connection)
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute)
    async with open_database(url) as database:
        looking = asyncio.create_task(database.look())
        await asyncio.wait_for(asked.wait(), 20)
    with pytest.raises(Unavailable):
        await looking
    await asyncio.sleep(0)
    assert [one.closed for one in made] == [True]
