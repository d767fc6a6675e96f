"""The corpus is the same each time, every kind is in it, real clients read it, and its model notices what differs."""

import hashlib
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.tools import tool

from .corpus import IMAGES, Image, Layer, Tar, assert_same_tree, difference, names, tree_of, write_layout
from .corpus.trees import Entry


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_layout(folder, IMAGES.items())
    return folder


def test_there_are_enough() -> None:
    assert len(list(names())) >= 20


@pytest.mark.parametrize("name", [*names()])
def test_each_is_the_same_each_time(name: str) -> None:
    assert IMAGES[name]() == IMAGES[name]()


def test_blobs_are_what_they_are_called(layout: Path) -> None:
    for blob in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


@pytest.mark.parametrize("name", ["plain", "empty_tars", "compressions", "same_diff_ids", "several_platforms"])
def test_skopeo_reads_them(layout: Path, tmp_path: Path, name: str) -> None:
    copy = [tool("skopeo"), "copy", "--quiet", "--all", "--preserve-digests"]
    subprocess.run([*copy, f"oci:{layout}:{name}", f"oci:{tmp_path}:{name}"], check=True, timeout=60)
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    (copied,) = json.loads((tmp_path / "index.json").read_text())["manifests"]
    assert copied["digest"] == manifests[list(IMAGES).index(name)]["digest"]


def test_the_model_has_every_kind() -> None:
    tree = {path: entry for name in names() for path, entry in tree_of(IMAGES[name]().tars).items()}
    kinds = {"file", "directory", "symlink", "fifo", "character device", "block device"}
    assert {entry.kind for entry in tree.values()} == kinds
    assert any(entry.group for entry in tree.values())
    assert any(entry.mtime < 0 for entry in tree.values())


def test_the_model_unpacks_one_layer_as_tar_does(tmp_path: Path) -> None:
    for name in names():
        layer = IMAGES[name]().tars[0]
        if not layer or name in ("devices", "owners", "times"):
            continue
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run([tool("tar"), "-xf", "-", "-C", str(folder)], input=layer, check=True, timeout=60)
        found = {os.fsencode(path.relative_to(folder)): path for path in folder.rglob("*")}
        tree = {path: entry for path, entry in tree_of([layer]).items() if path}
        assert found.keys() == tree.keys(), name
        for path, entry in tree.items():
            if entry.kind == "file":
                assert hashlib.sha256(found[path].read_bytes()).hexdigest() == entry.sha256
            if entry.kind == "symlink":
                assert os.fsencode(found[path].readlink()) == entry.target


ONE = Entry("file", 0o644, 1, 2, Decimal(3), 4, "abc", b"", (0, 0), (("user.a", b"1"),), (b"a", b"b"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "fifo"},
        {"mode": 0o4644},
        {"uid": 9},
        {"gid": 9},
        {"mtime": Decimal("3.000000001")},
        {"size": 5},
        {"sha256": "abd"},
        {"target": b"x"},
        {"device": (1, 3)},
        {"xattrs": ()},
        {"group": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_difference_is_noticed(change: dict[str, object]) -> None:
    assert difference({b"a": ONE}, {b"a": ONE}) == []
    (line,) = difference({b"a": ONE}, {b"a": replace(ONE, **change)})  # type: ignore[arg-type]
    assert next(iter(change)) in line
    with pytest.raises(AssertionError, match="1 paths differ"):
        assert_same_tree({b"a": ONE}, {b"a": replace(ONE, **change)})  # type: ignore[arg-type]


def test_what_is_only_in_one_is_noticed() -> None:
    assert "only in the first" in difference({b"a": ONE}, {})[0]
    assert "only in the second" in difference({}, {b"a": ONE})[0]


def test_the_compressions() -> None:
    tar = Tar().file("a", b"a" * 5000).end()
    blobs = {Layer(tar, "none").blob, Layer(tar, "gzip").blob, Layer(tar, "members").blob, Layer(tar, "zstd").blob}
    assert len(blobs) == 4
    assert Layer(tar, "members").blob.count(b"\x1f\x8b\x08") == 3
    assert (
        subprocess.run(["gzip", "-dc"], input=Layer(tar, "members").blob, capture_output=True, check=True).stdout == tar
    )
    unpacked = subprocess.run(
        [tool("zstd"), "-dc"], input=Layer(tar, "zstd").blob, capture_output=True, check=True
    ).stdout
    assert unpacked == tar


def test_history_and_platforms(tmp_path: Path) -> None:
    layer = Layer(Tar().file("a").end())
    write_layout(tmp_path, [("wrong", Image((layer,), history=3)), ("both", Image((layer,), others=(Image(()),)))])
    index = json.loads((tmp_path / "index.json").read_text())
    wrong, both = (
        json.loads((tmp_path / "blobs" / one["digest"].replace(":", "/")).read_text()) for one in index["manifests"]
    )
    config = json.loads((tmp_path / "blobs" / wrong["config"]["digest"].replace(":", "/")).read_text())
    assert (len(config["history"]), len(config["rootfs"]["diff_ids"])) == (3, 1)
    assert len(both["manifests"]) == 2


def test_special_bits_are_in_the_headers() -> None:
    tree = tree_of(IMAGES["modes"]().tars[:1])
    assert (tree[b"setuid"].mode, tree[b"setgid"].mode, tree[b"sticky"].mode) == (0o4755, 0o2755, 0o1777)
    assert tree_of([Tar().device("x", tarfile.CHRTYPE, 4, 5).end()])[b"x"].device == (4, 5)
