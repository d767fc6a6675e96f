"""What one worker has committed no other worker serves as it was before, once the client has its answer."""

import http.client
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from drift_core.api import Digest
from tests.faults.inspection import all_listen, eventually
from tests.server import Server

INDEX = "application/vnd.oci.image.index.v1+json"
TAG = "/v2/team/app/manifests/latest"
CONNECTIONS = 12
"""So many are all on one worker once in two thousand runs, and then this proves less."""
MOVES = 1000


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections to both workers of a server."""
    with Server(tmp_path, "logging.level=warning") as server, ExitStack() as stack:
        eventually(lambda: all_listen(server), "both workers listening")
        opened = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(CONNECTIONS)]
        yield [stack.enter_context(closing(connection)) for connection in opened]


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    """Returns status and digest."""
    connection.request(method, path, body, {"Content-Type": INDEX})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers.get("Docker-Content-Digest", "")


def index(number: int) -> bytes:
    return msgspec.json.encode(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"n": str(number)}}
    )


def test_a_tag_that_was_moved_is_never_served_stale(connections: list[http.client.HTTPConnection]) -> None:
    writer, *readers = connections
    for number in range(MOVES):
        content = index(number)
        expected = Digest.of(content)
        assert ask(writer, "PUT", TAG, content) == (201, expected)
        seen = {ask(reader, "HEAD", TAG) for reader in readers}
        assert seen == {(200, expected)}, number


def test_what_was_deleted_is_gone_everywhere(connections: list[http.client.HTTPConnection]) -> None:
    writer, *readers = connections
    for number in range(MOVES // 10):
        content = index(number)
        digest = Digest.of(content)
        by_digest = f"/v2/team/app/manifests/{digest}"
        assert ask(writer, "PUT", TAG, content)[0] == 201
        assert {ask(reader, "HEAD", by_digest)[0] for reader in readers} == {200}
        assert ask(writer, "DELETE", by_digest)[0] == 202
        assert {ask(reader, "HEAD", by_digest)[0] for reader in readers} == {404}
        assert {ask(reader, "HEAD", TAG)[0] for reader in readers} == {404}
