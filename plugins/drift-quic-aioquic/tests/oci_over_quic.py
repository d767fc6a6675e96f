"""Collects the tests of tests/oci for a server to which every request goes through a gateway of quic-go's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

from tests.oci import conftest
from tests.oci.conftest import MAX_BLOB, MAX_MANIFEST
from tests.server import Server

from .conftest import free_port, write_certificate
from .gateway_process import gateway
from .real_server import settings


@contextmanager
def behind_a_gateway(folder: Path, *more: str) -> Iterator[Server]:
    """Yields a server whose address is that of the gateway."""
    files, port = write_certificate(folder), free_port()
    with Server(folder, *more, *settings(port, files), workers=1) as server, gateway(files[0], port) as host:
        server.host, server.url, server.port = host, f"http://{host}", int(host.rpartition(":")[2])
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with behind_a_gateway(tmp_path_factory.mktemp("oci"), "registry.immutable_tags=[]") as server:
        yield server


@pytest.fixture(scope="session")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = (
        f"registry.max_manifest_size={MAX_MANIFEST}",
        f"registry.max_upload_size_mb={MAX_BLOB >> 20}",
        'registry.immutable_tags=["v*", "release-?"]',
        "registry.sparse_manifests=true",
    )
    with behind_a_gateway(tmp_path_factory.mktemp("narrow"), *limits) as server:
        yield server


TARGETS = "Go's server and client refuse or mend targets and versions that are none before QUIC sees them"
LOST = "a stream that is broken off loses what was under way, and one that has not begun is never seen"
LEFT_OUT = {
    "test_bad_name": TARGETS,
    "test_query_that_cannot_be_read": TARGETS,
    "test_not_http": TARGETS,
    "test_targets_that_are_no_path": TARGETS,
    "test_huge_manifest_is_refused_before_it_is_invited": "the gateway asks for a body before it knows who wants it",
    "test_cut_manifest_is_not_stored": LOST,
    "test_cut_single_post_leaves_no_blob": LOST,
    "test_resume_after_a_cut": LOST,
}
"""Tests that say something of HTTP/1.1 itself, or of what TCP has delivered, and why that is otherwise here."""


def collect(*modules: ModuleType) -> dict[str, Any]:
    """Returns tests, under names that begin with that of their module, and the fixtures that they need."""
    found: dict[str, Any] = {}
    for module in (conftest, *modules):
        prefix = module.__name__.rpartition(".")[2]
        for name, one in vars(module).items():
            if name in LEFT_OUT:
                continue
            if name.startswith("test_"):
                found[f"{prefix}_{name.removeprefix('test_')}"] = one
            elif isinstance(one, FixtureFunctionDefinition):
                found[name] = one
    return found | {"server": server, "narrow_server": narrow_server}
