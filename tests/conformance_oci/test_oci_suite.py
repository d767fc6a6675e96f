"""The OCI suite against `drift serve`."""

from pathlib import Path

import pytest

from tests.conformance_oci.suite import check_every_test_passes
from tests.server import Server


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_every_test_of_the_suite_passes(version: str, tmp_path: Path) -> None:
    with Server(tmp_path / "registry", "registry.sparse_manifests=true") as server:
        check_every_test_passes(version, server.host, tmp_path)
