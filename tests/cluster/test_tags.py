"""Tags of one repository, pushed and raced through several nodes, while all of them live and while some are killed."""

import json
import random
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from tests.cluster.client import RETRYABLE, Client, holds_its_form
from tests.cluster.kills import Kills
from tests.cluster.nodes import Cluster, tracebacks
from tests.faults.inspection import PATIENCE, eventually
from tests.faults.ledger import Ledger, verify
from tests.faults.pusher import Pusher
from tests.oci.client import refused
from tests.oci.content import Blob, Document, image, index, unique_blob
from tests.oci.wire import Answer

PUSHES = 200

PUSHERS = 20
"""Clients that push one image after the other while nodes are killed."""

SAMPLE = 50
"""Older facts that are read again after each round; the last round reads all."""

CONTENDERS = 24
"""Clients that want the same tag at the same time."""

_serial = count()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"tags/{request.node.originalname.replace('_', '-')}-{next(_serial)}"


def holds_everything(client: Client, repository: str, pushed: dict[str, tuple[Document, Blob]]) -> None:
    """Asserts that a repository lists exactly these tags, and that each pulls what was pushed under it."""
    tags = client.tags(repository)
    assert sorted(tags) == sorted(pushed), f"missing: {sorted({*pushed} - {*tags})}"

    def check(tag: str) -> None:
        manifest, layer = pushed[tag]
        assert client.pull(repository, tag) == (manifest.digest, manifest.content), tag
        assert client.pull_blob(repository, layer.digest) == layer.content, tag

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, pushed))


def test_two_hundred_concurrent_pushes_are_two_hundred_tags(cluster: Cluster, client: Client, repository: str) -> None:
    """Nobody sends a manifest before everybody has sent the blobs: all of them arrive at the same time."""
    barrier = threading.Barrier(PUSHES)

    def push(number: int) -> tuple[str, tuple[Document, Blob]]:
        config, layer = unique_blob(), unique_blob(20_000)
        for blob in (config, layer):
            client.push_blob(repository, blob)
        manifest = image(config, layer)
        barrier.wait(PATIENCE)
        client.put_manifest(repository, manifest, f"v{number}")
        return f"v{number}", (manifest, layer)

    with ThreadPoolExecutor(PUSHES) as pool:
        pushed = dict(pool.map(push, range(PUSHES)))
    holds_everything(client, repository, pushed)
    served = {node.name: client.served[node.name] for node in cluster.nodes}
    assert min(served.values()) > PUSHES, served
    assert not list(tracebacks(cluster.nodes))


def push_while_nodes_die(cluster: Cluster, client: Client, repository: str, kills: int) -> None:
    """Pushes at least `PUSHES` images through a number of kills, and holds the registry to what it acknowledged."""
    pushed: dict[str, tuple[Document, Blob]] = {}
    serial = count()

    def push(killing: Kills) -> None:
        while killing.count < kills or len(pushed) < PUSHES:
            tag, layer = f"v{next(serial)}", unique_blob(50_000)
            pushed[tag] = client.push_image(repository, tag, unique_blob(), layer), layer
            # All of it is read back in the end.
            time.sleep(0.2)

    with Kills(cluster, secrets.token_hex(4)) as killing, ThreadPoolExecutor(PUSHERS) as pool:
        for pushing in [pool.submit(push, killing) for _ in range(PUSHERS)]:
            pushing.result()
    holds_everything(client, repository, pushed)
    assert client.retried, "nobody ever noticed that a node had died: the test shows nothing"


def test_nothing_acknowledged_is_lost_while_nodes_are_killed(cluster: Cluster, client: Client, repository: str) -> None:
    push_while_nodes_die(cluster, client, repository, 3)


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_in_many_kills(cluster: Cluster, client: Client, repository: str) -> None:
    push_while_nodes_die(cluster, client, repository, 60)


class PatientPusher(Pusher):
    """A pusher of `tests.faults` that takes an answer of 502, 503 and 504 for no answer, which it may be."""

    def _ask(self, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
        answer = self._connect().exchange(method, target, body, **headers)
        if answer.status in RETRYABLE:
            holds_its_form(
                httpx.Response(
                    answer.status,
                    headers=answer.headers,
                    content=answer.body,
                    request=httpx.Request(method, f"http://registry{target}"),
                )
            )
            raise ConnectionAbortedError(answer.status)
        assert answer.status < 500, f"{method} {target}: {answer}"
        return answer


def crash(cluster: Cluster, rounds: int) -> None:
    """Pushes in every way there is, round by round, while nodes die, and holds the registry to the ledger."""
    seed = secrets.token_hex(4)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    chance, ledger, acknowledged, cut = random.Random(seed), Ledger(), 0, 0
    for number in range(rounds):
        pushers = [PatientPusher(cluster.balancer, ledger, f"{seed}/{number}/{name}", str(name)) for name in range(4)]
        stop = threading.Event()
        with ThreadPoolExecutor(len(pushers)) as pool:
            pushing = [pool.submit(pusher.push_until, stop) for pusher in pushers]
            try:
                with Kills(cluster, f"{seed}/{number}") as kills:
                    eventually(
                        lambda kills=kills, pushers=pushers: (
                            kills.count >= 2 and sum(len(pusher.cut) for pusher in pushers) >= 2
                        ),
                        "two kills, and two pushes that they cut",
                    )
            finally:
                stop.set()
            for pushed in pushing:
                pushed.result(PATIENCE)
        acknowledged += sum(pusher.acknowledged for pusher in pushers)
        cut += sum(len(pusher.cut) for pusher in pushers)
        seen = verify(ledger, cluster.balancer, chance, SAMPLE if number < rounds - 1 else None)
        assert not seen.lost
    assert acknowledged > 20 * rounds
    assert cut > rounds


def test_every_kind_of_push_survives_kills(cluster: Cluster, client: Client) -> None:
    del client
    crash(cluster, 1)


@pytest.mark.soak
def test_every_kind_of_push_survives_many_kills(cluster: Cluster, client: Client) -> None:
    del client
    crash(cluster, 20)


def test_one_of_many_creates_the_tag(client: Client, repository: str) -> None:
    for number in range(8):
        contest(client, f"/v2/{repository}/manifests/tag-{number}", if_none_match="*")


def test_one_of_many_moves_the_tag(client: Client, repository: str) -> None:
    path = f"/v2/{repository}/manifests/latest"
    contest(client, path, if_none_match="*")
    for _ in range(8):
        contest(client, path, if_match=client.insist("HEAD", path).headers["etag"])


def contest(client: Client, path: str, **condition: str) -> None:
    """Lets many clients of all nodes write a tag under the same condition: one does, and the others hear who did."""
    barrier = threading.Barrier(CONTENDERS)
    manifests = [index(annotations={"contender": secrets.token_hex(8)}) for _ in range(CONTENDERS)]

    def write(manifest: Document) -> httpx.Response:
        barrier.wait(PATIENCE)
        return client.ask("PUT", path, None, manifest.content, content_type=manifest.media_type, **condition)

    with ThreadPoolExecutor(CONTENDERS) as pool:
        answers = list(pool.map(write, manifests))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {201: 1, 412: CONTENDERS - 1}
    (winner,) = (manifest for manifest, answer in zip(manifests, answers, strict=True) if answer.status_code == 201)
    for answer in answers:
        if answer.status_code == 412:
            assert refused(answer, 412, "DENIED")["current"] == winner.digest
    for _ in range(6):
        assert client.insist("GET", path, accept="*/*").content == winner.content


def test_concurrent_writers_lose_no_update(client: Client, repository: str) -> None:
    """Twelve clients each add five to one counter that all of them read, change and swap, on whichever node."""
    clients, additions = 12, 5
    client.put_manifest(repository, index(annotations={"counter": "0"}), "counter")
    path = f"/v2/{repository}/manifests/counter"
    barrier = threading.Barrier(clients)

    def add(_: int) -> int:
        """Returns how often a swap failed because somebody else was faster."""
        lost = 0
        barrier.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        for _ in range(additions):
            while True:
                assert time.monotonic() < deadline, f"lost {lost} times"
                current = client.ask("GET", path)
                following = index(annotations={"counter": str(counted(current) + 1)})
                answer = client.ask(
                    "PUT",
                    path,
                    None,
                    following.content,
                    content_type=following.media_type,
                    if_match=current.headers["etag"],
                )
                if answer.status_code == 201:
                    break
                refused(answer, 412, "DENIED")
                lost += 1
        return lost

    with ThreadPoolExecutor(clients) as pool:
        lost = sum(pool.map(add, range(clients)))
    assert counted(client.ask("GET", path)) == clients * additions
    assert lost, "nobody ever met another client: the test shows nothing"


def counted(answer: httpx.Response) -> int:
    fields: dict[str, Any] = json.loads(answer.content)
    return int(fields["annotations"]["counter"])


def test_one_of_many_creates_the_tag_while_nodes_are_killed(cluster: Cluster, client: Client, repository: str) -> None:
    """Whose answer is lost may have won; but never two are told that they did, and the tag names the one who was."""
    lost: Counter[str] = Counter()

    def race(number: int) -> None:
        path = f"/v2/{repository}/manifests/tag-{number}"
        manifests = [index(annotations={"contender": secrets.token_hex(8)}) for _ in range(4)]

        def write(manifest: Document) -> int | None:
            try:
                answer = client.ask(
                    "PUT", path, None, manifest.content, content_type=manifest.media_type, if_none_match="*"
                )
            except httpx.TransportError:
                return None
            return None if answer.status_code in RETRYABLE else answer.status_code

        with ThreadPoolExecutor(len(manifests)) as pool:
            told = list(pool.map(write, manifests))
        named = client.insist("GET", path, accept="*/*")
        winners = [manifest for manifest, status in zip(manifests, told, strict=True) if status == 201]
        unknown = [manifest for manifest, status in zip(manifests, told, strict=True) if status is None]
        lost.update("lost" for _ in unknown)
        assert {*told} <= {201, 412, None}
        assert len(winners) <= 1
        if named.status_code == 404:
            assert not winners
            assert 412 not in told
        else:
            assert named.content in {manifest.content for manifest in winners or unknown}

    with Kills(cluster, secrets.token_hex(4)) as kills:
        for number in count():
            race(number)
            if kills.count >= 3 and lost and number >= 50:
                break
            assert number < 5000, f"{kills.count} kills, {lost}"
