"""Checks that regctl copies images, builds indexes, and pushes blobs whole and in chunks."""

import json
from pathlib import Path

import pytest

from tests.clients.couriers import plain_http, push
from tests.clients.image_layout import MIB, OCI, ImageLayout, content, differences, digest_of, noise
from tests.clients.programs import Output, Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server


def regctl(run: Programs, registry: Server, group: str, command: str, *arguments: str | Path) -> Output:
    """Runs one regctl command over plain HTTP."""
    return run("regctl", group, command, *plain_http(registry.host), *arguments)


@pytest.mark.parametrize(
    ("chunk", "threshold", "size"),
    [
        (1_000_003, 1, 5 * MIB + 17),
        (4 * MIB, 1, 8 * MIB),
        (4 * MIB, 1, 4 * MIB - 1),
        (65_536, 100_000, 100_000),
        (65_536, 100_000, 1_000_001),
        (4 * MIB, -1, 9 * MIB),
        (4 * MIB, 1, 0),
    ],
)
def test_a_blob_is_pushed_in_chunks(
    run: Programs, registry: Server, api: RegistryApi, repository: str, chunk: int, threshold: int, size: int, seed: int
) -> None:
    """Whatever the chunk size, and whether or not the size is a multiple of it, the blob is whole."""
    options = ("--blob-chunk", str(chunk), "--blob-max", str(threshold))
    run("regctl", "registry", "set", registry.host, "--tls", "disabled", *options)
    data = noise(size, seed)
    told = run("regctl", "blob", "put", f"{registry.host}/{repository}", data=data)
    assert told.text == digest_of(data)
    assert api.blob(repository, digest_of(data)) == data


@pytest.mark.parametrize("chunk", [10_007, MIB])
def test_an_image_is_pushed_in_chunks(
    run: Programs,
    registry: Server,
    api: RegistryApi,
    repository: str,
    reference: str,
    multi_platform: ImageLayout,
    chunk: int,
) -> None:
    """Every layer of an index goes up in chunks."""
    options = ("--blob-chunk", str(chunk), "--blob-max", "1")
    run("regctl", "registry", "set", registry.host, "--tls", "disabled", *options)
    run("regctl", "image", "copy", f"ocidir://{multi_platform.folder}:v1", reference)
    root = multi_platform.root()
    assert differences(content(root, multi_platform.read), content(root, api.reader(repository))) == []


def test_a_blob_with_a_wrong_digest_is_refused(
    run: Programs, registry: Server, api: RegistryApi, repository: str
) -> None:
    """The content decides: a blob pushed under the digest of another is not stored under either."""
    wrong = digest_of(b"something else")
    command = ("blob", "put", *plain_http(registry.host), "--digest", wrong)
    ended = run("regctl", *command, f"{registry.host}/{repository}", data=b"content", may_fail=True)
    assert ended.code != 0
    assert api.blob_status(repository, wrong) == 404


def test_a_blob_is_read_described_and_copied(
    run: Programs, registry: Server, api: RegistryApi, repository: str, seed: int
) -> None:
    """`blob get`, `blob head` and `blob copy` with a mount."""
    data = noise(100_000, seed)
    api.put_blob(repository, data, digest_of(data))
    name = f"{registry.host}/{repository}"
    assert regctl(run, registry, "blob", "get", name, digest_of(data)).data == data
    assert str(len(data)) in regctl(run, registry, "blob", "head", name, digest_of(data)).text
    regctl(run, registry, "blob", "copy", name, f"{name}/copied", digest_of(data))
    assert api.blob(f"{repository}/copied", digest_of(data)) == data


def test_an_index_is_copied_within_the_registry(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`image copy` of an index to another repository takes every image of it."""
    root = api.put_content(repository, "v1", multi_platform)
    target = f"{repository}/copied"
    regctl(run, registry, "image", "copy", reference, f"{registry.host}/{target}:v2")
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []


def test_one_platform_is_copied(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`image copy --platform` takes only the image of that platform."""
    root = api.put_content(repository, "v1", multi_platform)
    amd64, _ = json.loads(multi_platform.read(root))["manifests"]
    target = f"{repository}/amd64"
    regctl(run, registry, "image", "copy", "--platform", "linux/amd64", reference, f"{registry.host}/{target}:v1")
    assert api.manifest(target, "v1").headers["docker-content-digest"] == amd64["digest"]


def test_an_index_is_made_and_changed(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`index create`, `index add` and `index delete` write indexes that the registry takes."""
    root = api.put_content(repository, "v1", multi_platform)
    amd64, arm64 = json.loads(multi_platform.read(root))["manifests"]
    made = f"{registry.host}/{repository}:made"
    regctl(run, registry, "index", "create", "--ref", reference, "--platform", "linux/amd64", made)
    assert api.manifest(repository, "made").headers["content-type"] == OCI.index
    entries = api.manifest(repository, "made").json()["manifests"]
    assert [entry["digest"] for entry in entries] == [amd64["digest"]]
    regctl(run, registry, "index", "add", "--ref", reference, "--platform", "linux/arm64", made)
    entries = api.manifest(repository, "made").json()["manifests"]
    assert {entry["digest"] for entry in entries} == {amd64["digest"], arm64["digest"]}
    regctl(run, registry, "index", "delete", "--digest", amd64["digest"], made)
    entries = api.manifest(repository, "made").json()["manifests"]
    assert [entry["digest"] for entry in entries] == [arm64["digest"]]


def test_a_manifest_is_read_as_it_is(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, image: ImageLayout
) -> None:
    """The raw body and the digest are those that were pushed."""
    root = api.put_content(repository, "v1", image)
    assert regctl(run, registry, "manifest", "get", "--format", "raw-body", reference).data == image.read(root)
    assert regctl(run, registry, "manifest", "head", reference).text == root["digest"]
    assert regctl(run, registry, "image", "digest", reference).text == root["digest"]


def test_repositories_and_tags_are_listed(
    run: Programs, registry: Server, api: RegistryApi, repository: str, image: ImageLayout
) -> None:
    """`repo ls` and `tag ls`, with their page sizes and starting points."""
    root = api.put_content(repository, "a", image)
    for tag in ("b", "c", "d"):
        api.put_manifest(repository, tag, image.read(root), root["mediaType"])
    name = f"{registry.host}/{repository}"
    assert regctl(run, registry, "tag", "ls", name).lines() == ["a", "b", "c", "d"]
    assert regctl(run, registry, "tag", "ls", "--limit", "2", name).lines() == ["a", "b"]
    assert regctl(run, registry, "tag", "ls", "--limit", "2", "--last", "b", name).lines() == ["c", "d"]
    assert repository in regctl(run, registry, "repo", "ls", registry.host).lines()


def test_an_image_is_exported_and_imported(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`image export` and `image import` bring an index through a tar file to another name."""
    push(run, "regctl", multi_platform.folder, reference)
    exported = run.home / "image.tar"
    regctl(run, registry, "image", "export", reference, exported)
    target = f"{repository}/imported"
    regctl(run, registry, "image", "import", f"{registry.host}/{target}:v1", exported)
    root = multi_platform.root()
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []
