"""`drift import oci-layout` and `drift export`: with the layouts of real clients, and there and back."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.clients import couriers
from tests.clients.image_layout import ImageLayout, content, differences
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server
from tests.tools import ROOT
from tests.transfer.distribution import Distribution
from tests.transfer.moves import Filled, assert_complete, assert_same, command, drift

MIB = 1 << 20


@pytest.mark.parametrize("client", couriers.COURIERS)
def test_a_layout_of_a_client(
    client: str, run: Programs, old: Distribution, filled: Filled, place: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    couriers.pull(run, client, f"{old.address}/team/app:v1", layout)
    if client == "crane":
        # It writes no names: what it pulled is not tagged.
        root = ImageLayout(layout).root()
        ImageLayout(layout).tag(root)
    refused = drift("import", "oci-layout", layout, folder=place)
    assert refused.code == 2
    assert "say into which REPOSITORY" in refused.errors
    done = drift("import", "oci-layout", layout, "some/app", folder=place)
    assert (done.code, done.copied()[0]) == (0, 1)
    again = drift("import", "oci-layout", layout, "some/app", folder=place)
    assert (again.code, again.copied()) == (0, (0, 0, 0))
    with Server(place) as server:
        new, before = RegistryApi(server.host), RegistryApi(old.address)
        root = {"mediaType": new.manifest("some/app", "v1").headers["content-type"], "digest": filled.subject}
        assert differences(content(root, before.reader("team/app")), content(root, new.reader("some/app"))) == []


@pytest.fixture(scope="module")
def first(old: Distribution, filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that has imported everything, and is not changed by any test."""
    place = tmp_path_factory.mktemp("first")
    done = drift("import", "distribution", old.data, folder=place)
    assert (done.code, done.counts["repositories"]) == (0, len(filled.tags))
    return place


def test_there_and_back(
    run: Programs, old: Distribution, filled: Filled, first: Path, place: Path, tmp_path: Path
) -> None:
    exported = tmp_path / "exported"
    planned = drift("export", exported, "--dry-run", folder=first)
    assert not exported.exists()
    done = drift("export", exported, folder=first)
    assert (planned.code, done.code, done.copied()) == (0, 0, planned.copied())
    again = drift("export", exported, folder=first)
    assert (again.code, again.copied()[1:], again.counts["bytes"]) == (0, (0, 0), 0)
    assert drift("import", "oci-layout", exported, folder=place).code == 0
    with Server(place) as server:
        assert_complete(run, old.address, server.host, filled, tmp_path / "pulled")


def test_clients_read_what_was_exported(run: Programs, filled: Filled, first: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    assert drift("export", exported, folder=first).code == 0
    with Server(tmp_path / "server") as server:
        for client in ("oras", "regctl", "skopeo"):
            couriers.push(run, client, exported / "team" / "app", f"{server.host}/{client}:v1")
            assert run("crane", "digest", "--insecure", f"{server.host}/{client}:v1").text == filled.subject
        # crane takes a layout of one image only.
        couriers.push(run, "crane", exported / "a" / "b" / "c" / "d" / "e", f"{server.host}/crane:v1")
        assert run("crane", "digest", "--insecure", f"{server.host}/crane:v1").text == filled.subject


def test_a_tag_brings_what_refers_to_it_and_is_added(
    run: Programs, old: Distribution, filled: Filled, first: Path, place: Path, tmp_path: Path
) -> None:
    exported = tmp_path / "exported"
    for selection in (["team/app:v1"], ["team/app:moved"], ["docker/list"]):
        assert drift("export", exported, *selection, folder=first).code == 0
    missing = drift("export", exported, "team/app:none", folder=first)
    assert (missing.code, missing.reasons("tag")) == (1, "there is no such tag")
    assert drift("import", "oci-layout", exported, folder=place).code == 0
    with Server(place) as server:
        new = RegistryApi(server.host)
        assert_same(run, old.address, server.host, {"team/app": {"v1", "moved"}}, tmp_path / "pulled")
        assert set(new.tags("team/app")) == {"v1", "moved"}
        assert new.tags("docker/list") == ["v1"]
        assert {found["digest"] for found in new.referrers("team/app", filled.subject)} == filled.referrers
        assert new.manifest_status("team/app", filled.untagged) == 404


def test_a_blob_that_is_damaged_in_the_store_is_named(first: Path, tmp_path: Path) -> None:
    place = tmp_path / "damaged"
    subprocess.run(["cp", "-r", first, place], check=True)
    blob = max((place / "data" / "blobs").glob("*/*/*"), key=lambda file: file.stat().st_size)
    blob.write_bytes(bytes(blob.stat().st_size))
    exported = tmp_path / "exported"
    done = drift("export", exported, folder=place)
    assert done.code == 1
    assert {Path(file).name for kind, file in done.failures() if kind == "blob"} == {blob.name}
    assert "is damaged in the store" in done.reasons("blob")
    assert list(exported.glob(f"**/{blob.name}*")) == list(exported.glob("**/*.part")) == []
    assert done.counts["manifests"]["copied"] > 0


def test_memory_does_not_grow_with_a_layer(place: Path, tmp_path: Path) -> None:
    peaks: dict[str, list[int]] = {"import": [], "export": []}
    for size in (1, 200 * MIB):
        layout = ImageLayout(tmp_path / f"image-{size}")
        layout.tag(layout.add_image(size, layers=1, layer_size=size, compression="none"))
        for arguments in (("import", "oci-layout", layout.folder, f"of-{size}"), ("export", tmp_path / f"{size}")):
            peaks[str(arguments[0])].append(_peak(command(*arguments, "--jobs", "2", folder=place)))
    for small, large in peaks.values():
        assert large - small < 50 * MIB, peaks


def _peak(arguments: list[str]) -> int:
    """Runs a command and returns the most memory that it had, in bytes."""
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss * 1024
