"""Checks that the comparison on which the other tests rely tells every difference."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.clients.image_layout import Compression, ImageLayout, content, differences, noise


def test_the_same_seed_makes_the_same_content(tmp_path: Path) -> None:
    """Two layouts of one seed hold the same bytes, of two seeds different ones."""
    made = [ImageLayout(tmp_path / str(number)) for number in range(3)]
    roots = [layout.add_multi_platform(seed) for layout, seed in zip(made, (1, 1, 2), strict=True)]
    first, same, other = (content(root, layout.read) for root, layout in zip(roots, made, strict=True))
    assert differences(first, same) == []
    assert differences(first, other) != []


def test_an_index_reaches_every_manifest_config_and_layer(tmp_path: Path) -> None:
    """An index of two images of three layers is eleven blobs."""
    layout = ImageLayout(tmp_path / "layout")
    found = content(layout.add_multi_platform(seed=1), layout.read)
    assert len(found) == 1 + 2 * (1 + 1 + 3)
    assert all(digest == f"sha256:{hashlib.sha256(data).hexdigest()}" for digest, data in found.items())


def test_a_flipped_bit_a_missing_blob_and_an_extra_blob_are_told(image: ImageLayout) -> None:
    """Every way in which content can arrive wrong is named with its digest."""
    sent = content(image.root(), image.read)
    for digest, data in sent.items():
        flipped = bytes([data[0] ^ 1]) + data[1:]
        (told,) = differences(sent, {**sent, digest: flipped})
        assert digest in told
        (told,) = differences(sent, {key: value for key, value in sent.items() if key != digest})
        assert told == f"{digest} is missing"
    (told,) = differences(sent, {**sent, "sha256:00": b""})
    assert told == "sha256:00 was never sent"


@pytest.mark.parametrize("compression", ["none", "gzip", "stored", "zstd"])
def test_a_layer_is_the_tar_that_its_config_promises(tmp_path: Path, compression: Compression) -> None:
    """The unpacked layer has the diff id that the config names, and holds the noise of its seed."""
    layout = ImageLayout(tmp_path / "layout")
    descriptor, diff_id = layout.add_layer("opt/file.bin", 3_000_000, seed=5, compression=compression)
    data = layout.read(descriptor)
    assert descriptor["size"] == len(data)
    match compression:
        case "gzip" | "stored":
            data = gzip.decompress(data)
        case "zstd":
            zstandard = pytest.importorskip("zstandard")
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile("opt/file.bin")
        assert file is not None
        unpacked = file.read()
    assert len(unpacked) == 3_000_000
    assert unpacked[:1000] == noise(3_000_000, 5)[:1000]


def test_a_manifest_names_what_the_layout_holds(image: ImageLayout) -> None:
    """Each descriptor's size is the size of its blob."""
    manifest = json.loads(image.read(image.root()))
    for descriptor in (manifest["config"], *manifest["layers"]):
        assert descriptor["size"] == len(image.read(descriptor))
