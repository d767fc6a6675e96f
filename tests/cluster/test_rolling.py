"""Another version joins: old and new nodes serve side by side, and nobody goes back unnoticed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import drift_core
from tests.cluster.client import Client
from tests.cluster.conftest import BuildCluster
from tests.cluster.load import Load
from tests.cluster.nodes import Cluster, Node
from tests.faults.inspection import PATIENCE, refused
from tests.oci.content import unique_blob

VERSION = f"{drift_core.__version__.rpartition('.')[0]}.999"
"""A later one, with which the plugins that are installed still work."""

MIGRATION = '''"""Adds what an old version does not know: a column, and a table."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tags", sa.Column("color", sa.Text, nullable=True))
    op.create_table("colors", sa.Column("name", sa.Text, primary_key=True))
'''


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Makes a newer version with one more migration, and returns the variables by which a node runs it."""
    folder = tmp_path_factory.mktemp("newer")
    ours = Path(drift_core.__file__).parent
    shutil.copytree(ours, folder / "drift_core", ignore=shutil.ignore_patterns("__pycache__"))
    metadata = folder / f"drift_core-{VERSION}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: drift-core\nVersion: {VERSION}\n")
    versions = folder / "drift_core" / "metadata" / "migrations" / "versions"
    head = max(path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py"))
    (versions / "9999_colors.py").write_text(MIGRATION.format(head=head))
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def cluster(build_cluster: BuildCluster) -> Iterator[Cluster]:
    """Two nodes of this version."""
    return build_cluster(nodes=2)


def versions(node: Node) -> dict[str, str]:
    """Returns the version of every node, as one of them says."""
    return {one["node_id"]: one["version"] for one in node.cluster()["nodes"]}


def test_old_and_new_serve_side_by_side(cluster: Cluster, newer: dict[str, str]) -> None:
    """One node after the other is replaced while clients push, move and pull; none of them ever has to ask twice."""
    first, second = cluster.nodes
    with Load(cluster.url, "rolling/side-by-side") as load, Client(first.url) as old, Client(second.url) as new:
        load.goes_on()
        assert second.stop(PATIENCE) == 0
        second.variables = newer
        second.start(PATIENCE)
        cluster.whole()
        assert versions(first) == versions(second) == {first.name: drift_core.__version__, second.name: VERSION}
        load.goes_on()
        # Each reads what the other has written, and a tag may be moved by one after the other.
        for writer, reader, tag in ((old, new, "by-old"), (new, old, "by-new"), (old, new, "by-new")):
            layer = unique_blob(10_000)
            manifest = writer.push_image("rolling/by-hand", tag, unique_blob(), layer)
            assert reader.pull("rolling/by-hand", tag) == (manifest.digest, manifest.content)
            assert reader.pull_blob("rolling/by-hand", layer.digest) == layer.content
        assert first.stop(PATIENCE) == 0
        said = refused(first)
        assert "written by a newer Drift (migration 9999)" in said
        assert "upgrade Drift" in said
        load.goes_on()
        first.variables = newer
        first.start(PATIENCE)
        cluster.whole()
        assert versions(first) == {first.name: VERSION, second.name: VERSION}
        load.goes_on()
    assert not load.client.retried, load.client.retried
