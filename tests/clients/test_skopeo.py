"""Checks that skopeo copies in OCI and in Docker formats, inspects, lists and syncs."""

import json
from pathlib import Path

import pytest
import zstandard

from tests.clients.couriers import push
from tests.clients.image_layout import DOCKER, OCI, ImageLayout, MediaTypes, content, differences, digest_of
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server

TO = "--dest-tls-verify=false"
FROM = "--src-tls-verify=false"


@pytest.mark.parametrize(("name", "types"), [("oci", OCI), ("v2s2", DOCKER)], ids=["oci", "docker"])
def test_an_image_is_pushed_in_either_format(
    run: Programs,
    api: RegistryApi,
    repository: str,
    reference: str,
    image: ImageLayout,
    name: str,
    types: MediaTypes,
) -> None:
    """The registry serves the manifest in the format in which skopeo wrote it, and the layers are those of before."""
    run("skopeo", "copy", TO, "--format", name, f"oci:{image.folder}:v1", f"docker://{reference}")
    served = api.manifest(repository, "v1")
    assert served.headers["content-type"] == types.manifest
    assert served.json()["config"]["mediaType"] == types.config
    before = json.loads(image.read(image.root()))["layers"]
    assert [layer["digest"] for layer in served.json()["layers"]] == [layer["digest"] for layer in before]
    validated = run("crane", "validate", "--insecure", "--remote", reference)
    assert "PASS" in validated.text + validated.errors


def test_a_format_is_changed_within_the_registry(
    run: Programs, api: RegistryApi, registry: Server, repository: str, reference: str, image: ImageLayout
) -> None:
    """OCI becomes Docker and Docker becomes OCI on the way from one tag to another."""
    push(run, "skopeo", image.folder, reference)
    name = f"docker://{registry.host}/{repository}"
    run("skopeo", "copy", FROM, TO, "--format", "v2s2", f"{name}:v1", f"{name}:docker")
    assert api.manifest(repository, "docker").headers["content-type"] == DOCKER.manifest
    run("skopeo", "copy", FROM, TO, "--format", "oci", f"{name}:docker", f"{name}:again")
    assert api.manifest(repository, "again").headers["content-type"] == OCI.manifest


def test_a_docker_manifest_list_comes_as_a_folder(
    run: Programs, api: RegistryApi, repository: str, reference: str, tmp_path: Path, seed: int
) -> None:
    """Skopeo pulls a manifest list with all its images, digests kept."""
    layout = ImageLayout(tmp_path / "layout")
    root = layout.tag(layout.add_multi_platform(seed, types=DOCKER))
    api.put_content(repository, "v1", layout)
    received = tmp_path / "received"
    run("skopeo", "copy", "--all", "--preserve-digests", FROM, f"docker://{reference}", f"dir:{received}")
    arrived = {digest_of(path.read_bytes()) for path in received.iterdir()}
    assert content(root, layout.read).keys() <= arrived


def test_layers_are_repacked_with_zstd(
    run: Programs, api: RegistryApi, repository: str, reference: str, tmp_path: Path, seed: int
) -> None:
    """Skopeo packs layers on the way up; what the registry serves unpacks to what the configuration promises."""
    layout = ImageLayout(tmp_path / "plain")
    layout.tag(layout.add_image(seed, compression="none"))
    options = (TO, "--dest-compress-format", "zstd")
    run("skopeo", "copy", *options, f"oci:{layout.folder}:v1", f"docker://{reference}")
    manifest = api.manifest(repository, "v1").json()
    assert {layer["mediaType"] for layer in manifest["layers"]} == {OCI.layer["zstd"]}
    config = json.loads(api.blob(repository, manifest["config"]["digest"]))
    unpacked = [
        digest_of(zstandard.ZstdDecompressor().decompressobj().decompress(api.blob(repository, layer["digest"])))
        for layer in manifest["layers"]
    ]
    assert unpacked == config["rootfs"]["diff_ids"]


def test_an_image_is_inspected(
    run: Programs, api: RegistryApi, registry: Server, repository: str, reference: str, image: ImageLayout, seed: int
) -> None:
    """`skopeo inspect` sees digest, tags, layers and configuration; `--raw` is the manifest itself."""
    root = api.put_content(repository, "v1", image)
    seen = run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}").json()
    manifest = json.loads(image.read(root))
    assert seen["Digest"] == root["digest"]
    assert seen["RepoTags"] == ["v1"]
    assert seen["Layers"] == [layer["digest"] for layer in manifest["layers"]]
    assert seen["Labels"] == {"seed": str(seed + 2)}
    raw = run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{reference}")
    assert raw.data == image.read(root)
    config = run("skopeo", "inspect", "--tls-verify=false", "--config", "--raw", f"docker://{reference}")
    assert config.data == image.read(manifest["config"])
    by_digest = f"docker://{registry.host}/{repository}@{root['digest']}"
    assert run("skopeo", "inspect", "--tls-verify=false", by_digest).json()["Digest"] == root["digest"]


def test_tags_are_listed(
    run: Programs, api: RegistryApi, registry: Server, repository: str, image: ImageLayout
) -> None:
    """`skopeo list-tags` follows the pages and finds every tag."""
    root = api.put_content(repository, "v1", image)
    tags = {f"build-{number:04}" for number in range(300)}
    for tag in tags:
        api.put_manifest(repository, tag, image.read(root), root["mediaType"])
    listed = run("skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/{repository}").json()
    assert set(listed["Tags"]) == {*tags, "v1"}


def test_a_repository_is_synced_to_a_folder_and_back(
    run: Programs, api: RegistryApi, registry: Server, repository: str, image: ImageLayout, multi_platform: ImageLayout
) -> None:
    """`skopeo sync` saves all tags of a repository and restores them under another name."""
    api.put_content(repository, "single", image)
    api.put_content(repository, "multi", multi_platform)
    saved = run.home / "saved"
    saved.mkdir()
    common = ("sync", "--all", "--preserve-digests")
    options = ("--src", "docker", "--dest", "dir", FROM)
    run("skopeo", *common, *options, f"{registry.host}/{repository}", saved)
    target = f"{repository}/restored"
    run("skopeo", *common, "--src", "dir", "--dest", "docker", TO, saved, f"{registry.host}/{target}")
    base = repository.rpartition("/")[2]
    for tag, layout in (("single", image), ("multi", multi_platform)):
        served = api.manifest(f"{target}/{base}", tag)
        assert served.headers["docker-content-digest"] == layout.root()["digest"]
        sent = content(layout.root(), layout.read)
        assert differences(sent, content(layout.root(), api.reader(f"{target}/{base}"))) == []


def test_a_copy_to_another_repository(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """A copy within the registry, for which skopeo mounts the blobs, has all that the index needs."""
    root = api.put_content(repository, "v1", multi_platform)
    target = f"{repository}/copied"
    options = ("--all", "--preserve-digests", FROM, TO)
    run("skopeo", "copy", *options, f"docker://{reference}", f"docker://{registry.host}/{target}:v1")
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []
