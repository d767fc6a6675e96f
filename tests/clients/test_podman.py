"""Checks that images built by buildah go through the registry into the storage of podman, and back."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.couriers import pull
from tests.clients.image_layout import DOCKER, OCI, ImageLayout, MediaTypes, content, differences, layer_seed, noise
from tests.clients.programs import Output, Programs
from tests.clients.registry_api import RegistryApi
from tests.tools import unavailable


class ContainerTools:
    """buildah and podman on a container storage of their own."""

    def __init__(self, run: Programs, folder: Path) -> None:
        """Keeps images and their state below `folder`, copied rather than overlaid."""
        self._run = run
        self._folder = folder
        options = ("--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "runroot"))
        self._options = options

    def buildah(self, *arguments: str | Path) -> Output:
        """Runs one buildah command."""
        return self._run("buildah", *self._options, *arguments)

    def podman(self, *arguments: str | Path, may_fail: bool = False) -> Output:
        """Runs one podman command."""
        return self._run("podman", *self._options, "--tmpdir", self._folder / "tmp", *arguments, may_fail=may_fail)

    def build(self, name: str, files: list[Path], form: str = "oci") -> None:
        """Builds an image with one layer for each file, starting from nothing."""
        base = "scratch"
        for number, file in enumerate(files):
            container = self.buildah("from", "--pull-never", base).text
            self.buildah("add", container, file, f"/opt/{file.name}")
            self.buildah("config", "--label", f"step={number}", container)
            base = name if number == len(files) - 1 else f"localhost/step:{number}"
            self.buildah("commit", "--quiet", "--rm", "--format", form, container, base)

    def files(self, name: str) -> dict[str, bytes]:
        """Returns by name the content of the files in `/opt` of an image."""
        container = self.buildah("from", "--pull-never", name).text
        mounted = Path(self.buildah("mount", container).text) / "opt"
        found = {path.name: path.read_bytes() for path in mounted.iterdir()}
        self.buildah("umount", container)
        self.buildah("rm", container)
        return found


@pytest.fixture
def built(seed: int, tmp_path: Path) -> list[Path]:
    """Three files, each of which becomes a layer."""
    folder = tmp_path / "files"
    folder.mkdir()
    files = [folder / f"file-{number}.bin" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(noise(200_000 + number, seed + number))
    return files


@pytest.fixture
def storages() -> Iterator[Path]:
    """A folder with a short path: podman refuses a long one."""
    if os.geteuid() != 0:
        unavailable("buildah and podman keep their storage as root in these tests")
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        yield Path(folder)


@pytest.fixture
def here(run: Programs, storages: Path) -> ContainerTools:
    """The container storage from which images are pushed."""
    return ContainerTools(run, storages / "here")


@pytest.fixture
def there(run: Programs, storages: Path) -> ContainerTools:
    """Another container storage, into which images are pulled."""
    return ContainerTools(run, storages / "there")


def by_name(files: list[Path]) -> dict[str, bytes]:
    """Returns the content of files by their names."""
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(("form", "types"), [("oci", OCI), ("docker", DOCKER)], ids=["oci", "docker"])
def test_a_built_image_goes_from_buildah_to_podman(
    api: RegistryApi,
    repository: str,
    reference: str,
    here: ContainerTools,
    there: ContainerTools,
    built: list[Path],
    form: str,
    types: MediaTypes,
) -> None:
    """Buildah pushes an image of three layers in either format; podman pulls it into another storage."""
    here.build("localhost/built", built, form)
    here.buildah("push", "--tls-verify=false", "localhost/built", f"docker://{reference}")
    served = api.manifest(repository, "v1")
    assert served.headers["content-type"] == types.manifest
    assert len(served.json()["layers"]) == len(built)
    there.podman("pull", "--quiet", "--tls-verify=false", reference)
    (inspected,) = there.podman("image", "inspect", reference).json()
    assert inspected["Digest"] == served.headers["docker-content-digest"]
    config = json.loads(api.blob(repository, served.json()["config"]["digest"]))
    assert inspected["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
    assert there.files(reference) == by_name(built)


@pytest.mark.parametrize("puller", ["crane", "oras", "regctl", "skopeo"])
def test_what_podman_pushed_other_clients_pull(
    run: Programs,
    api: RegistryApi,
    repository: str,
    reference: str,
    here: ContainerTools,
    built: list[Path],
    puller: str,
    tmp_path: Path,
) -> None:
    """The bytes that podman uploaded arrive in a layout as they are served, and make a valid image."""
    here.build("localhost/built", built)
    here.podman("push", "--quiet", "--tls-verify=false", "localhost/built", reference)
    served = api.manifest(repository, "v1")
    root = {"mediaType": served.headers["content-type"], "digest": served.headers["docker-content-digest"]}
    pull(run, puller, reference, tmp_path / "received")
    received = ImageLayout(tmp_path / "received")
    assert received.root()["digest"] == root["digest"]
    assert differences(content(root, api.reader(repository)), content(root, received.read)) == []
    validated = run("crane", "validate", "--insecure", "--remote", reference)
    assert "PASS" in validated.text + validated.errors


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_podman_unpacks_what_the_layout_held(
    api: RegistryApi,
    repository: str,
    reference: str,
    here: ContainerTools,
    compression: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """An image that no tool of podman's family built, packed with gzip or zstd, unpacks to the same files."""
    layout = ImageLayout(tmp_path / "layout")
    layout.tag(layout.add_image(seed, layers=4, compression="zstd" if compression == "zstd" else "gzip"))
    root = api.put_content(repository, "v1", layout)
    here.podman("pull", "--quiet", "--tls-verify=false", reference)
    (inspected,) = here.podman("image", "inspect", reference).json()
    assert inspected["Digest"] == root["digest"]
    expected = {f"layer-{number}.bin": noise(20_000 + number, layer_seed(seed, number)) for number in range(4)}
    assert here.files(reference) == expected


def test_podman_chooses_its_platform_from_an_index(
    api: RegistryApi, repository: str, reference: str, here: ContainerTools, multi_platform: ImageLayout
) -> None:
    """Podman pulls the image of the platform that was asked for out of an index."""
    api.put_content(repository, "v1", multi_platform)
    for architecture in ("amd64", "arm64"):
        here.podman("pull", "--quiet", "--tls-verify=false", "--platform", f"linux/{architecture}", reference)
        (inspected,) = here.podman("image", "inspect", reference).json()
        assert inspected["Architecture"] == architecture


@pytest.mark.parametrize(("form", "types"), [("oci", OCI), ("v2s2", DOCKER)], ids=["oci", "docker"])
def test_a_manifest_list_is_pushed_with_all_its_images(
    run: Programs,
    api: RegistryApi,
    repository: str,
    reference: str,
    here: ContainerTools,
    built: list[Path],
    form: str,
    types: MediaTypes,
) -> None:
    """`buildah manifest push --all` sends the list and every image in it."""
    for number, architecture in enumerate(("amd64", "arm64")):
        container = here.buildah("from", "--pull-never", "scratch").text
        here.buildah("add", container, built[number], "/opt/")
        here.buildah("config", "--arch", architecture, container)
        here.buildah("commit", "--quiet", "--rm", container, f"localhost/{architecture}")
    here.buildah("manifest", "create", "localhost/list", "localhost/amd64", "localhost/arm64")
    options = ("--all", "--format", form, "--tls-verify=false")
    here.buildah("manifest", "push", *options, "localhost/list", f"docker://{reference}")
    served = api.manifest(repository, "v1")
    assert served.headers["content-type"] == types.index
    platforms = [entry["platform"]["architecture"] for entry in served.json()["manifests"]]
    assert sorted(platforms) == ["amd64", "arm64"]
    validated = run("crane", "validate", "--insecure", "--remote", reference)
    assert "PASS" in validated.text + validated.errors
