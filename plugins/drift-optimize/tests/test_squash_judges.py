"""umoci, podman's storage and tar unpack the original and the squashed image to the same files on disk."""

import io
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from drift_optimize.squash import squash

from tests.tools import tool

from .corpus import IMAGES, ONLY_TAR, Image, Layer, names, tree_of, write_layout
from .corpus.trees import IMPLIED

Disk = dict[bytes, tuple[object, ...]]
SLOW = {"five_thousand_files"}
JUDGED = [
    pytest.param(name, marks=[pytest.mark.soak] if name in SLOW else []) for name in names() if name not in ONLY_TAR
]
TOUCHED = {"deep_folders", "implied_folders"}
"""Images of which umoci touches folders while it makes or removes others in them that no entry names."""
NOT_BY_PODMAN = {
    "duplicates": "refuses them, as the specification says",
    "implied_folders": "fails where a whiteout stands behind what it would hide",
    "whiteouts": "makes the folder in which a whiteout would hide something",
    "whiteouts_beside_entries": "lets a whiteout hide entries of its own layer that stand before it",
    "xattrs": "keeps what a folder had that is described again, unless it unpacks to overlayfs",
}
"""Where podman does not do what the specification says, and umoci and we do."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


def disk(root: Path) -> Disk:
    """What is at each path below a folder, with everything but the times of access and change."""
    found: Disk = {}
    inodes: dict[int, bytes] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = os.fsencode(path.relative_to(root))
        what = b""
        if stat.S_ISREG(status.st_mode):
            what = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            what = os.fsencode(path.readlink())
        keys = sorted(os.listxattr(path, follow_symlinks=False))
        attributes = tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in keys)
        is_file = not stat.S_ISDIR(status.st_mode)
        found[name] = (
            status.st_mtime_ns,
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_rdev,
            status.st_nlink if is_file else 0,
            inodes.setdefault(status.st_ino, name) if is_file else b"",
            attributes,
            what,
        )
    return found


def assert_same_disk(one: Disk, other: Disk, untimed: set[bytes]) -> None:
    """Fails where two folders differ, but for when those were changed that nothing says it of."""
    assert one
    assert one.keys() == other.keys()
    for path, found in one.items():
        start = 1 if path in untimed else 0
        assert found[start:] == other[path][start:], path


def folders(tars: list[bytes], *, implied: bool = False) -> set[bytes]:
    tree = tree_of(tars)
    return {path for path, entry in tree.items() if entry.kind == "directory" and (not implied or entry == IMPLIED)}


def squashed(tars: list[bytes], base: int = 0) -> list[bytes]:
    out = io.BytesIO()
    squash([io.BytesIO(tar) for tar in tars], out, base=base)
    return [*tars[:base], out.getvalue()]


def of(tars: list[bytes]) -> Image:
    # umoci of Debian 12 reads no zstd.
    return Image(tuple(Layer(tar, "none") for tar in tars))


def umoci(folder: Path, name: str) -> Disk:
    bundle = folder / f"bundle-{name}"
    unpack = [tool("umoci"), "unpack", "--image", f"{folder}/layout:{name}", str(bundle)]
    done = subprocess.run(unpack, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return disk(bundle / "rootfs")


@pytest.mark.parametrize("name", JUDGED)
def test_umoci(name: str, tmp_path: Path) -> None:
    tars = IMAGES[name]().tars
    versions = {"original": tars, "squashed": squashed(tars)}
    if len(tars) > 1:
        versions["above"] = squashed(tars, 1)
    write_layout(tmp_path / "layout", [(version, of(some)) for version, some in versions.items()])
    original, *others = [umoci(tmp_path, version) for version in versions]
    for other in others:
        assert_same_disk(original, other, folders(tars, implied=name not in TOUCHED))


@pytest.mark.parametrize("name", sorted(ONLY_TAR))
def test_tar(name: str, tmp_path: Path) -> None:
    tars = IMAGES[name]().tars
    for program, options in (("tar", ["-xpf", "-"]), ("bsdtar", ["-xpf", "-"])):
        disks: list[Disk] = []
        for version, (tar,) in (("original", tars), ("squashed", squashed(tars))):
            folder = tmp_path / f"{program}-{version}"
            folder.mkdir()
            subprocess.run([tool(program), *options, "-C", str(folder)], input=tar, check=True, timeout=60)
            disks.append(disk(folder))
        assert_same_disk(disks[0], disks[1], set())


class Storage:
    """podman's storage in a folder of its own, by buildah, with each layer unpacked over those below it."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]

    def __call__(self, *command: str) -> str:
        run = [tool("buildah"), *self._options, *command]
        done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def unpacked(self, layout: Path, name: str) -> Disk:
        container = self("from", "--name", name, f"oci:{layout}:{name}")
        found = disk(Path(self("mount", container)))
        self("rm", container)
        return found


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    run = Storage(tmp_path_factory.mktemp("storage"))
    yield run
    run("rmi", "--all", "--force")


MOST_TELLING = ["opaque_folders", "replaced_kinds", "hardlinks_across_layers", "devices"]
REST = [name for name in names() if name not in {*MOST_TELLING, *NOT_BY_PODMAN, *ONLY_TAR}]


@pytest.mark.parametrize("name", [*MOST_TELLING, *(pytest.param(name, marks=pytest.mark.soak) for name in REST)])
def test_podman(storage: Storage, name: str, tmp_path: Path) -> None:
    tars = IMAGES[name]().tars
    write_layout(tmp_path, [("original", of(tars)), ("squashed", of(squashed(tars)))])
    original, after = (storage.unpacked(tmp_path, version) for version in ("original", "squashed"))
    # It touches each folder in which a layer changes something and of which it says nothing.
    assert_same_disk(original, after, folders(tars))
