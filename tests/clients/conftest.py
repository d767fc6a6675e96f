"""The registry that all client tests share, and what each test gets to talk to it."""

import itertools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.image_layout import Descriptor, ImageLayout
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one registry that all clients share."""
    with Server(tmp_path_factory.mktemp("registry"), "registry.max_upload_size_mb=4096") as server:
        yield server


@pytest.fixture(scope="session")
def api(registry: Server) -> RegistryApi:
    """The registry's HTTP API with no client in between."""
    return RegistryApi(registry.host)


@pytest.fixture
def run(tmp_path: Path) -> Programs:
    """Runs a client program in a home of this test's own."""
    return Programs(tmp_path / "home")


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """The name of a repository that no other test uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"clients/{name}-{next(_numbers)}"


@pytest.fixture
def reference(registry: Server, repository: str) -> str:
    """What names the tag `v1` in this test's repository."""
    return f"{registry.host}/{repository}:v1"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number of this test's own, so that the registry cannot have any of its content from another test."""
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def multi_platform(seed: int, tmp_path: Path) -> ImageLayout:
    """A layout whose tag `v1` is an index of an amd64 and an arm64 image of three layers each."""
    layout = ImageLayout(tmp_path / "multi-platform")
    layout.tag(layout.add_multi_platform(seed))
    return layout


@pytest.fixture
def image(seed: int, tmp_path: Path) -> ImageLayout:
    """A layout whose tag `v1` is one image of three layers."""
    layout = ImageLayout(tmp_path / "image")
    layout.tag(layout.add_image(seed + 2))
    return layout


@pytest.fixture
def subject(api: RegistryApi, repository: str, image: ImageLayout) -> Descriptor:
    """The descriptor of an image that was pushed as `v1` of this test's repository with no client involved."""
    return api.put_content(repository, "v1", image)
