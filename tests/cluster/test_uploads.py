"""Uploads that several nodes work on: each request at another one, and the node that dies in the middle of a body."""

import time
from itertools import count, cycle

import pytest

from tests.cluster.client import Client
from tests.cluster.nodes import Cluster, Node
from tests.faults.inspection import MIB, PATIENCE, eventually
from tests.oci.client import location_of, refused
from tests.oci.content import OCTETS, Blob, image, unique_blob
from tests.oci.wire import Wire

PART = 8 * MIB
"""What the storage driver keeps for good while a body still arrives, by its default."""

BUSY = frozenset({409})
"""What a client hears of an upload for as long as it cannot be known that the node that wrote to it is dead."""

_serial = count()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"uploads/{request.node.originalname.replace('_', '-')}-{next(_serial)}"


def received(client: Client, location: str) -> int:
    """Returns how many bytes an upload says that it holds; 0-0 is what it says of none."""
    answer = client.insist("GET", location)
    assert answer.status_code == 204, answer.text
    last = int(answer.headers["range"].removeprefix("0-"))
    return last + 1 if last else 0


def append(client: Client, location: str, blob: Blob, start: int, stop: int) -> str:
    """Sends a part of a blob, and returns where the upload goes on."""
    answer = client.insist(
        "PATCH",
        location,
        None,
        blob.content[start:stop],
        also=BUSY,
        content_type=OCTETS,
        content_range=f"{start}-{stop - 1}",
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["range"] == f"0-{stop - 1}"
    return location_of(answer)


def commit(client: Client, location: str, blob: Blob) -> None:
    answer = client.insist("PUT", location, {"digest": blob.digest}, also=BUSY)
    assert answer.status_code == 201, answer.text


def test_begun_here_appended_there_committed_elsewhere(cluster: Cluster, repository: str) -> None:
    blob = unique_blob(3 * MIB)
    first, second, third = (Client(node.url) for node in cluster.nodes)
    with first, second, third:
        location = append(second, first.begin(repository), blob, 0, blob.size)
        commit(third, location, blob)
        for client in (first, second, third):
            assert client.pull_blob(repository, blob.digest) == blob.content


@pytest.mark.parametrize("chunk", [700_000, 6 * MIB, 11 * MIB], ids=["small", "middle", "large"])
def test_each_chunk_at_another_node(chunk: int, cluster: Cluster, repository: str) -> None:
    blob = unique_blob(5 * chunk + 1)
    clients = [Client(node.url) for node in cluster.nodes]
    turns = cycle(clients)
    location = next(turns).begin(repository)
    for start in range(0, blob.size, chunk):
        location = append(next(turns), location, blob, start, min(start + chunk, blob.size))
        assert received(next(turns), location) == min(start + chunk, blob.size)
    commit(next(turns), location, blob)
    for client in clients:
        assert client.pull_blob(repository, blob.digest) == blob.content
        client.__exit__()


def test_the_last_chunk_comes_with_the_commit(cluster: Cluster, repository: str) -> None:
    blob = unique_blob(PART + 100_000)
    first, second, third = (Client(node.url) for node in cluster.nodes)
    with first, second, third:
        location = append(second, first.begin(repository), blob, 0, PART)
        rest = blob.content[PART:]
        answer = third.ask("PUT", location, {"digest": blob.digest}, rest, content_type=OCTETS)
        assert answer.status_code == 201, answer.text
        assert first.pull_blob(repository, blob.digest) == blob.content


def test_a_wrong_offset_is_told_on_every_node(cluster: Cluster, repository: str) -> None:
    blob = unique_blob(1000)
    first, second, third = (Client(node.url) for node in cluster.nodes)
    with first, second, third:
        location = append(first, second.begin(repository), blob, 0, 600)
        for client in (second, third):
            answer = client.ask("PATCH", location, None, b"x" * 10, content_type=OCTETS, content_range="500-509")
            assert refused(answer, 416, "BLOB_UPLOAD_INVALID")["received"] == 600
        commit(third, append(second, location, blob, 600, 1000), blob)


def test_an_upload_that_ended_is_unknown_everywhere(cluster: Cluster, repository: str) -> None:
    first, second, third = (Client(node.url) for node in cluster.nodes)
    with first, second, third:
        location = append(second, first.begin(repository), unique_blob(1000), 0, 1000)
        assert third.ask("DELETE", location).status_code == 204
        for client in (first, second, third):
            refused(client.ask("GET", location), 404, "BLOB_UPLOAD_UNKNOWN")
            answer = client.ask("PATCH", location, None, b"x", content_type=OCTETS)
            refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")


def test_pushed_through_the_balancer(cluster: Cluster, client: Client, repository: str) -> None:
    config, layer = unique_blob(), unique_blob(2 * MIB)
    location = client.begin(repository)
    for start in range(0, layer.size, MIB // 4):
        location = append(client, location, layer, start, start + MIB // 4)
    commit(client, location, layer)
    client.push_blob(repository, config)
    manifest = image(config, layer)
    client.put_manifest(repository, manifest, "latest")
    assert client.pull(repository, "latest") == (manifest.digest, manifest.content)
    assert {node.name for node in cluster.nodes} <= {*client.served}


def send_half(node: Node, location: str, blob: Blob, half: int) -> Wire:
    """Begins to send a whole blob to a node, and stops in the middle with the connection open."""
    wire = Wire(node)
    wire.begin("PATCH", location, content_length=blob.size, content_type=OCTETS)
    wire.send(blob.content[:half])
    return wire


def test_a_node_is_killed_in_the_middle_of_a_body(cluster: Cluster, client: Client, repository: str) -> None:
    """What it had stored is kept; the client asks any other node where to go on, and goes on there."""
    victim, *others = cluster.nodes
    blob = unique_blob(40 * MIB)
    sent = 3 * PART + PART // 2
    location = client.begin(repository)
    with Client(others[0].url) as second, Client(others[1].url) as third:
        wire = send_half(victim, location, blob, sent)
        eventually(lambda: received(second, location) >= 2 * PART, "two parts stored for good")
        before = received(second, location)
        victim.kill()
        wire.socket.close()
        held = received(third, location)
        assert before <= held <= sent
        began = time.monotonic()
        location = append(second, location, blob, held, blob.size)
        waited = time.monotonic() - began
        commit(third, location, blob)
        victim.start(PATIENCE)
        cluster.whole()
        assert client.pull_blob(repository, blob.digest) == blob.content
        assert waited < PATIENCE / 2


def test_a_node_that_was_paused_writes_nothing_late(cluster: Cluster, client: Client, repository: str) -> None:
    """The upload goes on elsewhere while a node stands in the middle of a body; what that one still has is too late."""
    victim, *others = cluster.nodes
    blob = unique_blob(3 * PART)
    overtaken = Blob(blob.content[:PART] + bytes(2 * PART))
    sent = PART + PART // 2
    location = client.begin(repository)
    with Client(others[0].url) as second, Client(others[1].url) as third:
        with send_half(victim, location, overtaken, sent) as wire:
            eventually(lambda: received(second, location) >= PART, "a part stored for good")
            victim.pause()
            try:
                assert received(third, location) == PART
                following = append(second, location, blob, PART, blob.size)
            finally:
                victim.resume()
            wire.send(overtaken.content[sent:])
            assert wire.answer("PATCH").status >= 400
        assert received(third, following) == blob.size
        commit(third, following, blob)
    cluster.whole()
    assert client.pull_blob(repository, blob.digest) == blob.content
