"""One server with two workers for all tests of the API, and one with narrow limits."""

import itertools
import re
from collections.abc import Iterator

import pytest

from tests.oci.client import Registry
from tests.server import Server

_serial = itertools.count()

MAX_MANIFEST = 64 << 10
"""Bytes that the server with narrow limits accepts as a manifest."""

MAX_BLOB = 1 << 20
"""Bytes that the server with narrow limits accepts as a blob."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as most are: two workers, the limits that come with it."""
    with Server(tmp_path_factory.mktemp("oci"), "registry.immutable_tags=[]") as server:
        yield server


@pytest.fixture(scope="session")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits, immutable tags, and manifests that may name missing content."""
    settings = (
        f"registry.max_manifest_size={MAX_MANIFEST}",
        f"registry.max_upload_size_mb={MAX_BLOB >> 20}",
        'registry.immutable_tags=["v*", "release-?"]',
        "registry.sparse_manifests=true",
    )
    with Server(tmp_path_factory.mktemp("narrow"), *settings) as server:
        yield server


@pytest.fixture(scope="session")
def registry(server: Server) -> Iterator[Registry]:
    """A client that keeps its connections."""
    with Registry(server.url) as registry:
        yield registry


@pytest.fixture(scope="session")
def anywhere(server: Server) -> Iterator[Registry]:
    """A client whose every request opens a connection, which either worker may get."""
    with Registry(server.url, fresh=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def narrow(narrow_server: Server) -> Iterator[Registry]:
    """A client of the server with small limits."""
    with Registry(narrow_server.url) as registry:
        yield registry


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.lower()).strip("-")
    return f"test{next(_serial)}/{test[:100]}"


@pytest.fixture
def other(repository: str) -> str:
    """A second name that no other test uses."""
    return f"other/{repository}"
