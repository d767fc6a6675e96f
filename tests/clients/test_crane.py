"""Checks what crane does beyond pushing and pulling: listing, copying with mounts, validating and appending."""

import json
from pathlib import Path

from tests.clients.image_layout import ImageLayout, content, differences
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server


def crane(run: Programs, command: str, *arguments: str) -> list[str]:
    """Runs one crane command over plain HTTP and returns the lines it printed."""
    return run("crane", command, "--insecure", *arguments).lines()


def test_the_catalog_lists_a_pushed_repository(
    run: Programs, registry: Server, api: RegistryApi, repository: str, image: ImageLayout
) -> None:
    """`crane catalog` finds each repository once, in order."""
    names = {f"{repository}/{number:03}" for number in range(30)}
    for name in names:
        api.put_content(name, "v1", image)
    listed = crane(run, "catalog", registry.host)
    assert names <= set(listed)
    assert listed == sorted(set(listed))


def test_the_tags_of_a_repository_are_listed(
    run: Programs, registry: Server, api: RegistryApi, repository: str, image: ImageLayout
) -> None:
    """`crane ls` follows the pages and finds every tag."""
    root = api.put_content(repository, "v1", image)
    tags = [f"build-{number:04}" for number in range(1_100)]
    for tag in tags:
        api.put_manifest(repository, tag, image.read(root), root["mediaType"])
    listed = crane(run, "ls", f"{registry.host}/{repository}")
    assert sorted(listed) == sorted([*tags, "v1"])


def test_a_copy_to_another_repository_mounts_the_layers(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`crane copy` within the registry moves no layer through the client, and all is there afterwards."""
    root = api.put_content(repository, "v1", multi_platform)
    target = f"{repository}/copied"
    copied = run("crane", "copy", "--insecure", "-v", reference, f"{registry.host}/{target}:v2")
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []
    layers = [
        layer["digest"]
        for image in json.loads(multi_platform.read(root))["manifests"]
        for layer in json.loads(multi_platform.read(image))["layers"]
    ]
    mounted = [line for line in copied.errors.splitlines() if "mounted blob: " in line]
    assert set(layers) <= {line.rpartition("mounted blob: ")[2].strip() for line in mounted}
    assert "--> PATCH" not in copied.errors, "a blob was uploaded although it could be mounted"


def test_all_tags_are_copied(
    run: Programs, registry: Server, api: RegistryApi, repository: str, image: ImageLayout
) -> None:
    """`crane copy --all-tags` finds and copies each tag."""
    root = api.put_content(repository, "one", image)
    for tag in ("two", "three"):
        crane(run, "tag", f"{registry.host}/{repository}:one", tag)
    crane(run, "copy", "--all-tags", f"{registry.host}/{repository}", f"{registry.host}/{repository}/copied")
    assert sorted(api.tags(f"{repository}/copied")) == ["one", "three", "two"]
    assert api.manifest_status(f"{repository}/copied", root["digest"]) == 200


def test_an_image_and_an_index_are_valid(
    run: Programs, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`crane validate` downloads every layer and agrees with each digest, size and diff id."""
    root = api.put_content(repository, "v1", multi_platform)
    validated = run("crane", "validate", "--insecure", "--remote", reference)
    assert "PASS" in validated.text + validated.errors
    for manifest in json.loads(multi_platform.read(root))["manifests"]:
        by_digest = f"{reference.rpartition(':')[0]}@{manifest['digest']}"
        validated = run("crane", "validate", "--insecure", "--remote", by_digest)
        assert "PASS" in validated.text + validated.errors


def test_manifest_config_blob_and_digest_are_read(
    run: Programs, api: RegistryApi, repository: str, reference: str, image: ImageLayout
) -> None:
    """Each part of an image is read back as it was pushed."""
    root = api.put_content(repository, "v1", image)
    manifest = json.loads(image.read(root))
    assert run("crane", "manifest", "--insecure", reference).data.rstrip() == image.read(root)
    assert run("crane", "config", "--insecure", reference).data.rstrip() == image.read(manifest["config"])
    assert crane(run, "digest", reference) == [root["digest"]]
    layer = manifest["layers"][1]
    name = reference.rpartition(":")[0]
    assert run("crane", "blob", "--insecure", f"{name}@{layer['digest']}").data == image.read(layer)


def test_one_platform_of_an_index_is_chosen(
    run: Programs, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`--platform` finds the image of that platform."""
    root = api.put_content(repository, "v1", multi_platform)
    _, arm64 = json.loads(multi_platform.read(root))["manifests"]
    assert crane(run, "digest", "--platform", "linux/arm64", reference) == [arm64["digest"]]


def test_a_layer_is_appended(
    run: Programs,
    api: RegistryApi,
    registry: Server,
    repository: str,
    reference: str,
    image: ImageLayout,
    tmp_path: Path,
    seed: int,
) -> None:
    """`crane append` uploads one more layer and a new manifest on top of an image that is there."""
    api.put_content(repository, "v1", image)
    other = ImageLayout(tmp_path / "other")
    descriptor, _ = other.add_layer("opt/appended.bin", 10_000, seed)
    tar = tmp_path / "layer.tar.gz"
    tar.write_bytes(other.read(descriptor))
    appended = f"{registry.host}/{repository}/appended:v1"
    crane(run, "append", "--base", reference, "--new_layer", str(tar), "--new_tag", appended)
    layers = api.manifest(f"{repository}/appended", "v1").json()["layers"]
    assert len(layers) == 4
    assert layers[-1]["digest"] == descriptor["digest"]
    validated = run("crane", "validate", "--insecure", "--remote", appended)
    assert "PASS" in validated.text + validated.errors


def test_labels_are_changed_and_layers_flattened(
    run: Programs, api: RegistryApi, registry: Server, repository: str, reference: str, image: ImageLayout
) -> None:
    """`crane mutate` and `crane flatten` make new images out of one in the registry."""
    api.put_content(repository, "v1", image)
    name = f"{registry.host}/{repository}"
    crane(run, "mutate", "--label", "stage=test", "--tag", f"{name}:mutated", reference)
    config = json.loads(run("crane", "config", "--insecure", f"{name}:mutated").data)
    assert config["config"]["Labels"]["stage"] == "test"
    crane(run, "flatten", "--tag", f"{name}:flat", reference)
    assert len(api.manifest(repository, "flat").json()["layers"]) == 1
