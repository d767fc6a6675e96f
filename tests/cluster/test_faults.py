"""What clients see while the object store, the database, a node or the network between them fails, and afterwards."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Self

import httpx
import pytest

from drift_core.conformance.faults import Fault
from tests.cluster.client import RETRYABLE, Client
from tests.cluster.conftest import BuildCluster
from tests.cluster.load import Load
from tests.cluster.nodes import Cluster, Node, leading, tracebacks
from tests.cluster.proxies import Proxy
from tests.cluster.recorder import Recorder
from tests.faults.inspection import MIB, PATIENCE, eventually
from tests.oci.content import OCTETS, unique_blob
from tests.services.minio import Minio
from tests.services.postgresql import Postgresql

SLOW = 1_000_000
"""Bytes a second of an object store that is slow."""

LEASE = 6.0
"""Seconds after which others lead where a leader on PostgreSQL says nothing any more."""

_serial = count()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"faults/{request.node.originalname.replace('_', '-')}-{next(_serial)}"


@pytest.fixture(scope="module")
def proxy(minio: Minio) -> Iterator[Proxy]:
    """What stands between every node and the object store."""
    with Proxy(minio.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return Recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture(scope="module")
def cluster(build_cluster: BuildCluster, proxy: Proxy, recorder: Recorder) -> Cluster:
    """Three nodes that reach their object store through the proxy, and pass the bytes on themselves."""
    return build_cluster(
        f"storage.s3.endpoint=http://127.0.0.1:{proxy.port}",
        "storage.s3.redirect=false",
        "storage.s3.part_size_mb=5",
        recorder.setting,
        variables=recorder.variables,
    )


@pytest.fixture(autouse=True)
def healthy(cluster: Cluster, proxy: Proxy) -> Iterator[None]:
    """Every test begins with all nodes, and leaves a registry whose nodes all come back without being started anew."""
    proxy.heal()
    cluster.whole()
    before = len(list(tracebacks(cluster.nodes)))
    yield
    proxy.heal()
    cluster.whole()
    assert not list(tracebacks(cluster.nodes))[before:]


class Direct:
    """Asks one node, past the balancer, for the same again and again: the right bytes, or to be asked later."""

    def __init__(self, node: Node, path: str, content: bytes) -> None:
        self.statuses: list[int] = []
        self._asked = path, content
        self._client = Client(node.url, timeout=PATIENCE)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(self._go_on)

    def _go_on(self) -> None:
        path, content = self._asked
        while not self._stop.is_set():
            answer = self._client.ask("GET", path, accept="*/*")
            self.statuses.append(answer.status_code)
            assert answer.status_code == 503 or answer.content == content
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        try:
            self._running.result(2 * PATIENCE)
        finally:
            self._pool.shutdown()
            self._client.__exit__()


def test_the_object_store_answers_503_for_ten_seconds(cluster: Cluster, proxy: Proxy, repository: str) -> None:
    """Who pushes or pulls bytes hears to come again; what lies in the database is answered, and nothing is lost."""
    node = cluster.nodes[0]
    with Load(cluster.url, repository) as load:
        load.goes_on()
        tag = next(iter(load.images))
        manifest, layer = load.images[tag]
        with (
            Direct(node, f"/v2/{repository}/blobs/{layer.digest}", layer.content) as blobs,
            Direct(node, f"/v2/{repository}/manifests/{tag}", manifest.content) as manifests,
        ):
            proxy.inject(Fault("503", direction="up"))
            time.sleep(10)
            proxy.heal()
        assert proxy.struck()
        assert {*manifests.statuses} == {200}
        assert len(blobs.statuses) < len(manifests.statuses) / 2
        load.goes_on()


def test_the_connection_to_the_object_store_is_cut_in_a_part(cluster: Cluster, proxy: Proxy, repository: str) -> None:
    blob = unique_blob(20 * MIB)
    with Client(cluster.nodes[0].url, timeout=PATIENCE) as client, Client(cluster.nodes[1].url) as other:
        location = client.begin(repository)
        proxy.inject(Fault("reset", after=3 * MIB, direction="up"))
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(client.ask, "PATCH", location, None, blob.content, content_type=OCTETS)
            eventually(proxy.struck, "a connection that was cut")
            proxy.heal()
            answer = sending.result(PATIENCE)
        if answer.status_code in RETRYABLE:
            status = other.insist("GET", location)
            last = int(status.headers["range"].removeprefix("0-"))
            held = last + 1 if last else 0
            answer = other.insist(
                "PATCH",
                location,
                None,
                blob.content[held:],
                also=frozenset({409}),
                content_type=OCTETS,
                content_range=f"{held}-{blob.size - 1}",
            )
        assert answer.status_code == 202, answer.text
        assert other.insist("PUT", location, {"digest": blob.digest}).status_code == 201
        assert other.pull_blob(repository, blob.digest) == blob.content


def test_the_connection_to_the_object_store_is_cut_in_a_pull(cluster: Cluster, proxy: Proxy, repository: str) -> None:
    """A pull that cannot be completed ends in a broken connection, never as one that looks whole."""
    blob = unique_blob(8 * MIB)
    with Client(cluster.nodes[0].url, timeout=PATIENCE) as client:
        client.push_blob(repository, blob)
        path = f"/v2/{repository}/blobs/{blob.digest}"
        proxy.inject(Fault("cut", after=MIB, direction="down"))
        with ThreadPoolExecutor(1) as pool:
            pulling = pool.submit(client.ask, "GET", path)
            eventually(proxy.struck, "a connection that was cut")
            try:
                answer = pulling.result(PATIENCE)
            except httpx.TransportError:
                pass
            else:
                assert answer.status_code in RETRYABLE or answer.content == blob.content
        proxy.heal()
        assert client.pull_blob(repository, blob.digest) == blob.content


def test_the_object_store_is_slow(cluster: Cluster, proxy: Proxy, repository: str) -> None:
    """At a megabyte a second each way a large layer goes through, and others do not wait for it."""
    blob = unique_blob(7 * MIB)
    with Load(cluster.url, repository, pushers=1, pullers=1, size=1000) as load, Client(cluster.url) as client:
        load.goes_on()
        proxy.inject(Fault("slow", rate=SLOW, direction="up"))
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(client.push_blob, repository, blob)
            load.goes_on()
            pushing.result(PATIENCE)
        # The test itself must have tested something: parts may be sent side by side, but no faster than this.
        assert time.monotonic() - began > 2
        proxy.inject(Fault("slow", rate=SLOW, direction="down"))
        assert client.pull_blob(repository, blob.digest) == blob.content
        proxy.heal()
        load.goes_on()
    assert not client.retried, client.retried


def test_the_object_store_stands_still(cluster: Cluster, minio: Minio, repository: str) -> None:
    """Nobody waits for ever: who needs bytes hears to come again, others are answered as ever."""
    node = cluster.nodes[0]
    with Client(node.url, timeout=PATIENCE) as client:
        layer, new = unique_blob(MIB), unique_blob(MIB)
        manifest = client.push_image(repository, "latest", unique_blob(), layer)
        minio.pause()
        try:
            with ThreadPoolExecutor(2) as pool:
                pulling = pool.submit(client.ask, "GET", f"/v2/{repository}/blobs/{layer.digest}")
                pushing = pool.submit(
                    client.ask, "POST", f"/v2/{repository}/blobs/uploads/", {"digest": new.digest}, new.content
                )
                assert pulling.result(PATIENCE).status_code == 503
                assert pushing.result(PATIENCE).status_code == 503
            began = time.monotonic()
            assert client.ask("GET", f"/v2/{repository}/manifests/latest").content == manifest.content
            assert time.monotonic() - began < PATIENCE / 10
        finally:
            minio.resume()
        assert client.pull_blob(repository, layer.digest) == layer.content
        client.push_blob(repository, new)
    with Load(cluster.url, f"{repository}/afterwards") as load:
        cluster.whole()
        load.goes_on()


@pytest.mark.parametrize("violently", [False, True], ids=["fast", "kill"])
def test_the_database_is_restarted_under_load(
    violently: bool, cluster: Cluster, postgresql: Postgresql, repository: str
) -> None:
    with Load(cluster.url, repository) as load:
        load.goes_on()
        if violently:
            postgresql.kill()
        else:
            postgresql.stop()
        time.sleep(1)
        start_again(postgresql)
        load.goes_on()
        cluster.whole()
        load.goes_on()


def start_again(postgresql: Postgresql) -> None:
    """Starts it, once the last of its processes has noticed that the first one was killed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return postgresql.start()
        except RuntimeError as error:
            if time.monotonic() > deadline or "still in use" not in str(error):
                raise
            time.sleep(0.1)


def test_the_database_is_away_for_a_while(cluster: Cluster, postgresql: Postgresql, repository: str) -> None:
    """Nobody is answered from what a node remembers: whether it still holds, only the database knows."""
    node = cluster.nodes[0]
    with Client(node.url, timeout=PATIENCE) as client:
        manifest = client.push_image(repository, "latest", unique_blob(), layer := unique_blob())
        assert client.pull(repository, "latest")[1] == manifest.content
        postgresql.stop()
        try:
            for path in ("manifests/latest", f"blobs/{layer.digest}", "tags/list"):
                answer = client.ask("GET", f"/v2/{repository}/{path}")
                assert answer.status_code == 503, f"{path}: {answer.status_code}"
            assert client.ask("GET", "/healthz").status_code == 200
            assert client.ask("GET", "/readyz").status_code == 503
        finally:
            start_again(postgresql)
        assert client.pull(repository, "latest")[1] == manifest.content


def stand(cluster: Cluster, recorder: Recorder, repository: str, seconds: float) -> None:
    """Lets the node that leads stand for a time, and looks at who leads, who tells, and what clients see."""
    old = cluster.leader()
    with Load(cluster.url, repository) as load:
        load.goes_on()
        eventually(lambda: bool(recorder.told_by(old)), "events that the first leader told")
        before = old.cluster()["lease"]["epoch"]
        old.pause()
        paused = time.monotonic()
        try:
            new = cluster.successor(old)
            taken_over = time.monotonic() - paused
            after = new.cluster()["lease"]["epoch"]
            assert after > before
            load.goes_on()
            since = load.moved[-1].digest
            eventually(lambda: since in {told.digest for told in recorder.told_by(new)}, "what the second leader told")
            time.sleep(max(0.0, paused + seconds - time.monotonic()))
            told = len(recorder.told_by(old))
        finally:
            old.resume()
        # It leads no more and knows it: what it had read before it stood it may tell once more, and nothing since.
        time.sleep(LEASE)
        assert leading(old.cluster()) == new.name
        assert new.cluster()["lease"]["epoch"] == after
        first = min(told.event for told in recorder.told() if told.digest == since)
        assert all(late.event < first for late in recorder.told_by(old)[told:])
        cluster.whole()
        load.goes_on()
    assert taken_over < 3 * LEASE
    everything_told(recorder, load)


def everything_told(recorder: Recorder, load: Load) -> None:
    """Waits until every acknowledged push was told, and checks that those of the repository came in order at first."""
    pushed = {manifest.digest for manifest, _ in load.images.values()} | {manifest.digest for manifest in load.moved}

    def all_told() -> bool:
        return pushed <= {told.digest for told in recorder.told() if told.repository == load.repository}

    eventually(all_told, "an event of every push")
    first: dict[int, None] = dict.fromkeys(told.event for told in recorder.told() if told.repository == load.repository)
    assert [*first] == sorted(first)


def test_the_node_that_leads_stands_and_goes_on(cluster: Cluster, recorder: Recorder, repository: str) -> None:
    stand(cluster, recorder, repository, 2 * LEASE)


@pytest.mark.soak
def test_the_node_that_leads_stands_for_a_minute(cluster: Cluster, recorder: Recorder, repository: str) -> None:
    for number in range(3):
        stand(cluster, recorder, f"{repository}/{number}", 60)


def test_the_node_that_leads_is_killed(cluster: Cluster, recorder: Recorder, repository: str) -> None:
    old = cluster.leader()
    with Load(cluster.url, repository) as load:
        load.goes_on()
        old.kill()
        killed = time.monotonic()
        cluster.successor(old)
        assert time.monotonic() - killed < 3 * LEASE
        load.goes_on()
        old.start(PATIENCE)
    everything_told(recorder, load)


def test_the_node_that_leads_stops_in_order(cluster: Cluster, recorder: Recorder, repository: str) -> None:
    """It gives the lead away, and nobody who asks the balancer notices that it stops and starts."""
    old = cluster.leader()
    with Load(cluster.url, repository) as load:
        load.goes_on()
        assert old.stop(PATIENCE) == 0
        stopped = time.monotonic()
        cluster.successor(old)
        assert time.monotonic() - stopped < LEASE
        load.goes_on()
        old.start(PATIENCE)
        cluster.whole()
        load.goes_on()
    assert not load.client.retried, load.client.retried
    everything_told(recorder, load)
