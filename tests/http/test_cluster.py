"""What several nodes tell of themselves over HTTP and on the command line, and who leads when one stops or dies."""

import json
import os
import re
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from drift_core import __version__
from drift_core.config import load
from drift_core.metadata.cluster import ClusterState, LeaseState, NodeState
from drift_core.metrics import Metrics
from tests.server import DRIFT, Server
from tests.services.postgresql import Postgresql
from tests.tools import ROOT

PATIENCE = 60.0
"""Seconds after which something counts as never happening."""

State = dict[str, Any]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


@pytest.fixture
def nodes(postgresql: Postgresql, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two nodes, the first of which leads."""
    url = f"metadata.url={postgresql.url(postgresql.new_database())}"
    one, other = (
        Server(tmp_path / name, url, f"cluster.node_id={name}", "cluster.enabled=true", workers=1)
        for name in ("one", "other")
    )
    with one:
        until(one, lambda state: state["leader"] is not None)
        with other:
            until(one, lambda state: len(state["nodes"]) == 2)
            yield one, other


def state_of(server: Server) -> State:
    answer = httpx.get(f"{server.url}/admin/cluster", timeout=PATIENCE)
    assert answer.status_code == 200
    state: State = answer.json()
    return state


def until(server: Server, reached: Callable[[State], bool]) -> State:
    deadline = time.monotonic() + PATIENCE
    while not reached(state := state_of(server)):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state


def by_label(state: State) -> dict[str, Any]:
    return {node["node_id"]: node for node in state["nodes"]}


def drift(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(DRIFT), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_node_tells_the_same(nodes: tuple[Server, Server]) -> None:
    one, other = nodes
    states = [by_label(state_of(server)) for server in nodes]
    for state in states:
        for server, name, role in ((one, "one", "Leader"), (other, "other", "Follower")):
            found = {key: state[name][key] for key in ("address", "role", "status", "version", "workers")}
            assert found == {
                "address": server.host,
                "role": role,
                "status": "Healthy",
                "version": __version__,
                "workers": 1,
            }
    told = state_of(one)
    assert (told["database"], told["lag"]) == ("postgresql", {"ui": 0})
    assert told["lease"]["holder"] == told["leader"] == states[0]["one"]["id"]
    shown = drift("cluster", "--json", *one.arguments())
    assert shown.returncode == 0, shown.stderr
    assert by_label(json.loads(shown.stdout)).keys() == {"one", "other"}
    table = drift("cluster", *other.arguments()).stdout
    assert "Leader" in table
    assert "Follower" in table


def test_who_stops_leaves_and_another_leads(nodes: tuple[Server, Server]) -> None:
    one, other = nodes
    before = state_of(other)["lease"]["epoch"]
    assert one.stop() == 0
    assert by_label(state_of(other))["one"]["status"] == "Leaving"
    after = until(other, lambda state: by_label(state)["other"]["role"] == "Leader")
    assert after["lease"]["epoch"] == before + 1


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_who_dies_or_hangs_is_followed_and_does_not_come_back_as_leader(nodes: tuple[Server, Server], how: str) -> None:
    one, other = nodes
    before = state_of(other)["lease"]["epoch"]
    assert one.process is not None
    if how == "killed":
        one.kill()
    else:
        os.killpg(one.process.pid, signal.SIGSTOP)
    after = until(other, lambda state: by_label(state)["other"]["role"] == "Leader")
    assert after["lease"]["epoch"] == before + 1
    if how == "killed":
        one.start()
    else:
        os.killpg(one.process.pid, signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE
        while "the lease is lost" not in one.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    now = state_of(one)
    assert (by_label(now)["other"]["role"], now["lease"]["epoch"]) == ("Leader", before + 1)


def test_one_machine_has_a_leader_too(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        state = until(server, lambda state: state["leader"] is not None)
        (node,) = state["nodes"]
        assert (node["role"], node["status"], node["workers"], state["database"]) == ("Leader", "Healthy", 2, "sqlite")
    with server:
        # Its lease was given back, and the next process is the same node.
        again = until(server, lambda state: state["leader"] is not None)
        assert [one["id"] for one in again["nodes"]] == [node["id"]]
        assert again["lease"]["epoch"] == state["lease"]["epoch"] + 1


def test_only_who_may_do_everything_sees_the_nodes(tmp_path: Path) -> None:
    settings = ("auth.mode=basic", 'auth.basic.users=["admin:secret"]')
    with Server(tmp_path / "server", *settings) as server:
        url = f"{server.url}/admin/cluster"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("admin", "wrong")).status_code == 401
        assert httpx.get(url, auth=("admin", "secret")).status_code == 200
    routes = drift("plugins", "routes", "--json", *server.arguments())
    (row,) = [row for row in json.loads(routes.stdout) if row["path"] == "/admin/cluster"]
    assert row == {"path": "/admin/cluster", "methods": ["GET"], "needs": "registry:*:*"}


def test_a_cluster_needs_a_database_that_nodes_can_share(tmp_path: Path) -> None:
    done = drift("config", "check", "--set", "cluster.enabled=true", "--set", f"storage.path={tmp_path}")
    assert done.returncode == 1
    assert "cluster.enabled: is true, but a file of SQLite is for one machine" in done.stderr


def test_the_check_names_what_of_the_original_s_cluster_means_nothing() -> None:
    done = drift("config", "check", "--set", 'cluster.seed_nodes=["a:7000"]', "--set", "cluster.node_id=a")
    assert done.returncode == 0, done.stderr
    assert "note: cluster.seed_nodes means nothing here: nodes find each other in the database" in done.stderr
    assert "cluster.node_id" not in done.stderr


def test_the_page_explains_every_field_and_its_configuration_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/how-to/several-nodes.md").read_text()
    structs = (ClusterState, NodeState, LeaseState)
    fields = {field for struct in structs for field in struct.__struct_fields__}
    assert {field for field in fields if f"`{field}`" not in page} == set()
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://drift@db.example.com/drift")
    assert load(tomllib.loads(toml), os.environ, ()).cluster.enabled
    metrics = generate_latest(Metrics().everything).decode()
    for metric in re.findall(r"`(drift_\w+)`", page):
        assert f"\n{metric} 0.0" in metrics
