"""The nodes that share a database: what each tells of itself, what is told of it, and when it is forgotten."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest
from sqlalchemy import Connection, update

from drift_core.config import load
from drift_core.metadata import outbox, tables
from drift_core.metadata.cluster import ClusterState, cluster_state
from drift_core.metadata.database import create_engine, open_database
from drift_core.metadata.lease import release, renew, take
from drift_core.metadata.nodes import (
    FORGOTTEN_SECONDS,
    Node,
    announce,
    forget_nodes,
    has_gone,
    record_node,
    this_node,
    this_process,
)
from drift_core.model import Change

TIMEOUT = 60.0
NODE = Node(id="host/a", label="a", address="127.0.0.1:1", version="9.9", workers=3, started_at=1764092065.9)
OTHER = msgspec.structs.replace(NODE, id="host/b", label="b", address=None)


@pytest.fixture
def db(either_url: str) -> Iterator[Connection]:
    engine = create_engine(either_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def silent_for(db: Connection, node: Node, seconds: float) -> None:
    change = update(tables.nodes).where(tables.nodes.c.id == node.id)
    db.execute(change.values(seen_at=tables.nodes.c.seen_at - seconds))


def statuses(db: Connection) -> dict[str, str]:
    return {node.node_id: node.status for node in cluster_state(db, TIMEOUT).nodes}


def test_a_node_is_told_as_it_was_recorded(db: Connection) -> None:
    record_node(db, NODE)
    state = cluster_state(db, TIMEOUT)
    (node,) = state.nodes
    assert 0 <= node.last_seen_seconds < TIMEOUT / 2
    assert msgspec.to_builtins(msgspec.structs.replace(node, last_seen_seconds=0)) == {
        "id": "host/a",
        "node_id": "a",
        "address": "127.0.0.1:1",
        "role": "Follower",
        "status": "Healthy",
        "version": "9.9",
        "workers": 3,
        "started_at": "2025-11-25T17:34:25Z",
        "last_seen_seconds": 0,
    }
    assert (state.leader, state.lease, state.lag, state.database) == (None, None, {}, db.dialect.name)


def test_who_is_silent_is_doubted_and_who_leaves_says_so(db: Connection) -> None:
    for node in (NODE, OTHER):
        record_node(db, node)
    silent_for(db, NODE, TIMEOUT / 2)
    assert statuses(db) == {"a": "Degraded", "b": "Healthy"}
    silent_for(db, NODE, TIMEOUT / 2)
    assert statuses(db) == {"a": "Unhealthy", "b": "Healthy"}
    record_node(db, NODE)
    record_node(db, OTHER, leaving=True)
    assert statuses(db) == {"a": "Healthy", "b": "Leaving"}


def test_a_new_version_of_a_node_takes_its_place(db: Connection) -> None:
    record_node(db, NODE, leaving=True)
    record_node(db, msgspec.structs.replace(NODE, version="10"))
    assert [(node.version, node.status) for node in cluster_state(db, TIMEOUT).nodes] == [("10", "Healthy")]


@pytest.mark.parametrize(("leaving", "silent"), [(True, TIMEOUT), (False, FORGOTTEN_SECONDS)])
def test_who_left_is_forgotten_soon_and_who_died_after_a_day(db: Connection, leaving: bool, silent: float) -> None:
    record_node(db, NODE, leaving=leaving)
    record_node(db, OTHER)
    silent_for(db, NODE, silent - 10)
    assert (has_gone(db, TIMEOUT), forget_nodes(db, TIMEOUT)) == (False, 0)
    silent_for(db, NODE, 11)
    assert (has_gone(db, TIMEOUT), forget_nodes(db, TIMEOUT)) == (True, 1)
    assert list(statuses(db)) == ["b"]


def leading(state: ClusterState) -> list[str]:
    return [node.id for node in state.nodes if node.role == "Leader"]


def test_who_has_the_lease_leads(db: Connection) -> None:
    for node in (NODE, OTHER):
        record_node(db, node)
    assert take(db, "background", OTHER.id, 60) == 1
    state = cluster_state(db, TIMEOUT)
    assert state.lease is not None
    assert (leading(state), state.leader, state.lease.epoch) == ([OTHER.id], OTHER.id, 1)
    assert 0 < state.lease.expires_in <= 60
    renew(db, "background", 1, -1)
    ended = cluster_state(db, TIMEOUT)
    assert (leading(ended), ended.leader) == ([], None)
    assert ended.lease is not None
    assert (ended.lease.holder, ended.lease.expires_in) == (OTHER.id, 0)
    assert take(db, "background", NODE.id, 60) == 2
    assert leading(cluster_state(db, TIMEOUT)) == [NODE.id]
    release(db, "background", NODE.id)
    assert cluster_state(db, TIMEOUT).leader is None


def test_the_lag_counts_what_is_new_and_what_was_put_aside(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for subscriber in ("quick", "slow"):
        outbox.subscribe(db, subscriber)
    for _ in range(5):
        outbox.add_event(db, Change(action="blob.push", repository="app"))
    outbox.advance(db, "quick", 5, [])
    outbox.advance(db, "slow", 3, [2])
    assert cluster_state(db, TIMEOUT).lag == {"quick": 0, "slow": 3}
    monkeypatch.setattr("drift_core.metadata.cluster.COUNTED", 2)
    assert cluster_state(db, TIMEOUT).lag == {"quick": 0, "slow": 2}


@pytest.mark.anyio
async def test_a_node_is_there_from_its_start_until_it_leaves(either_url: str) -> None:
    config = load(None, {}, ["cluster.heartbeat_interval_seconds=30", "cluster.health_check_timeout_seconds=1"])
    async with open_database(either_url) as database:

        async def seen() -> tuple[str, float] | None:
            state = await database.read(lambda db: cluster_state(db, TIMEOUT))
            return next(((node.status, node.last_seen_seconds) for node in state.nodes), None)

        announcing = asyncio.create_task(announce(database, NODE, config.cluster))
        async with asyncio.timeout(30):
            while await seen() is None:
                await asyncio.sleep(0.01)
            await database.write(lambda db: silent_for(db, NODE, 20))
            # Others would doubt it long before its interval has passed.
            while (await seen() or ("", 20))[1] > 10:
                await asyncio.sleep(0.01)
        assert not announcing.done()
        announcing.cancel()
        with suppress(asyncio.CancelledError):
            await announcing
        status, _ = await seen() or ("", 0)
        assert status == "Leaving"


def test_a_node_is_its_host_and_its_address_and_a_process_is_only_itself() -> None:
    config = load(None, {}, ["cluster.node_id=node-1", "server.workers=3"])
    node = this_node(config)
    assert (node.label, node.address, node.workers) == ("node-1", "127.0.0.1:5000", 3)
    assert node.id == this_node(config).id
    assert node.id.endswith("/127.0.0.1:5000")
    assert node.id != this_node(load(None, {}, ["server.bind_addr=127.0.0.1:5001"])).id
    assert this_process(config).id != this_process(config).id


def test_an_address_that_names_no_host_is_told_with_the_name_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "registry-3")
    node = this_node(load(None, {}, ["server.bind_addr=0.0.0.0:5000", "auth.mode=none"]))
    assert (node.label, node.address) == ("registry-3", "registry-3:5000")
    assert this_node(load(None, {}, ["server.bind_addr=[::]:5000"])).address == "registry-3:5000"
