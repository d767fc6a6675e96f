"""Checks that each client pulls, byte for byte, what each client pushed."""

import itertools
from pathlib import Path

import pytest

from tests.clients.couriers import COURIERS, pull, push
from tests.clients.image_layout import DOCKER, ImageLayout, content, differences
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi

PAIRS = tuple(itertools.product(COURIERS, COURIERS))
RING = tuple(zip(COURIERS, COURIERS[1:] + COURIERS[:1], strict=True))


def carry(
    run: Programs, api: RegistryApi, layout: ImageLayout, reference: str, pusher: str, puller: str, folder: Path
) -> None:
    """Pushes with one client and pulls with another, and compares what was sent, served and received."""
    root = layout.root()
    sent = content(root, layout.read)
    push(run, pusher, layout.folder, reference)
    repository, _, tag = reference.partition("/")[2].partition(":")
    served = api.manifest(repository, tag)
    assert served.body == layout.read(root)
    assert served.headers["content-type"] == root["mediaType"]
    assert served.headers["docker-content-digest"] == root["digest"]
    assert differences(sent, content(root, api.reader(repository))) == []
    pull(run, puller, reference, folder)
    received = ImageLayout(folder)
    assert received.root()["digest"] == root["digest"]
    assert differences(sent, content(root, received.read)) == []


@pytest.mark.parametrize(("pusher", "puller"), PAIRS)
def test_an_index_arrives_whole(
    run: Programs,
    api: RegistryApi,
    multi_platform: ImageLayout,
    reference: str,
    pusher: str,
    puller: str,
    tmp_path: Path,
) -> None:
    """An index of two platforms, with configs and layers, is the same after any pair of clients moved it."""
    carry(run, api, multi_platform, reference, pusher, puller, tmp_path / "pulled")


@pytest.mark.parametrize(("pusher", "puller"), RING)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_layers_arrive_as_they_were_packed(
    run: Programs,
    api: RegistryApi,
    reference: str,
    pusher: str,
    puller: str,
    compression: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """Layers packed with zstd, or not at all, are neither repacked nor renamed."""
    layout = ImageLayout(tmp_path / "layout")
    layout.tag(layout.add_image(seed, layers=4, compression="zstd" if compression == "zstd" else "none"))
    carry(run, api, layout, reference, pusher, puller, tmp_path / "pulled")


@pytest.mark.parametrize(("pusher", "puller"), [("crane", "regctl"), ("regctl", "oras"), ("oras", "crane")])
def test_a_docker_manifest_list_arrives_whole(
    run: Programs, api: RegistryApi, reference: str, pusher: str, puller: str, tmp_path: Path, seed: int
) -> None:
    """Docker's own media types are kept as they are."""
    layout = ImageLayout(tmp_path / "layout")
    layout.tag(layout.add_multi_platform(seed, types=DOCKER))
    carry(run, api, layout, reference, pusher, puller, tmp_path / "pulled")


@pytest.mark.parametrize(
    ("pusher", "puller"), [pytest.param(*pair, marks=[] if pair[0] == "crane" else pytest.mark.soak) for pair in RING]
)
def test_an_image_of_300_layers_arrives_whole(
    run: Programs, api: RegistryApi, reference: str, pusher: str, puller: str, tmp_path: Path, seed: int
) -> None:
    """300 layers, pushed with whatever concurrency the client has, all arrive."""
    layout = ImageLayout(tmp_path / "layout")
    layout.tag(layout.add_image(seed, layers=300, layer_size=1_000))
    carry(run, api, layout, reference, pusher, puller, tmp_path / "pulled")


@pytest.mark.parametrize(("pusher", "puller"), [("crane", "oras"), ("oras", "regctl"), ("regctl", "crane")])
def test_an_index_of_indexes_arrives_whole(
    run: Programs, api: RegistryApi, reference: str, pusher: str, puller: str, tmp_path: Path, seed: int
) -> None:
    """An index that holds another index arrives with everything below it (skopeo does not copy such an index)."""
    layout = ImageLayout(tmp_path / "layout")
    layout.tag(layout.add_index([layout.add_multi_platform(seed), layout.add_image(seed + 2)]))
    carry(run, api, layout, reference, pusher, puller, tmp_path / "pulled")


@pytest.mark.parametrize("pusher", COURIERS)
def test_pushing_twice_changes_nothing(
    run: Programs, api: RegistryApi, multi_platform: ImageLayout, repository: str, reference: str, pusher: str
) -> None:
    """A second push of what is there already succeeds and leaves the same content behind."""
    for _ in range(2):
        push(run, pusher, multi_platform.folder, reference)
    root = multi_platform.root()
    assert api.tags(repository) == ["v1"]
    assert differences(content(root, multi_platform.read), content(root, api.reader(repository))) == []


def test_a_tag_moves_to_what_was_pushed_last(
    run: Programs, api: RegistryApi, image: ImageLayout, multi_platform: ImageLayout, repository: str, reference: str
) -> None:
    """A tag names the newest push, and the older image stays there by digest."""
    push(run, "crane", image.folder, reference)
    push(run, "oras", multi_platform.folder, reference)
    assert api.manifest(repository, "v1").headers["docker-content-digest"] == multi_platform.root()["digest"]
    assert api.manifest(repository, image.root()["digest"]).body == image.read(image.root())
