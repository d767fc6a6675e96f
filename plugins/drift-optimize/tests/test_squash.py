"""Squashed layers unpack to the same tree: each rule of the image specification, and each image of the corpus."""

import hashlib
import io
import tarfile
from collections.abc import Sequence

import pytest
from drift_optimize.squash import AmbiguousLayers, Squashed, squash

from .corpus import IMAGES, LARGE, Tar, assert_same_tree, names, tree_of

LayerLike = Tar | bytes


def tars(layers: Sequence[LayerLike]) -> list[bytes]:
    return [layer.end() if isinstance(layer, Tar) else layer for layer in layers]


def run(*layers: LayerLike, base: int = 0) -> tuple[Squashed, bytes]:
    out = io.BytesIO()
    result = squash([io.BytesIO(tar) for tar in tars(layers)], out, base=base)
    return result, out.getvalue()


def opened(tar: bytes) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=io.BytesIO(tar))


def paths(tar: bytes) -> list[str]:
    return opened(tar).getnames()


def check(*layers: LayerLike, tree: str | None = None) -> bytes:
    """Squashes all layers, and those above each base; ``tree`` are the paths that must be left."""
    every = tars(layers)
    wanted = tree_of(every)
    if tree is not None:
        assert sorted(wanted) == sorted(tree.encode().split())
    result, squashed = run(*every)
    assert_same_tree(wanted, tree_of([squashed]))
    assert not any(".wh." in path for path in paths(squashed))
    assert (result.size, result.entries) == (len(squashed), len(paths(squashed)))
    assert result.diff_id == f"sha256:{hashlib.sha256(squashed).hexdigest()}"
    assert result.sizes == tuple(map(len, every))
    for base in range(1, len(every)):
        upper = run(*every, base=base)[1]
        assert_same_tree(wanted, tree_of([*every[:base], upper]))
    assert run(squashed)[1] == squashed
    return squashed


@pytest.mark.parametrize("name", [*names()])
def test_the_corpus(name: str) -> None:
    check(*IMAGES[name]().tars)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*LARGE])
def test_the_large_corpus(name: str) -> None:
    layers = LARGE[name]().tars
    squashed = run(*layers)[1]
    assert len(paths(squashed)) == 91_000
    assert_same_tree(tree_of(layers), tree_of([squashed]))


SPEC_BASE = Tar().file("file1").dir("a").file("a/file2").dir("b").dir("c").file("c/file3")
SPEC_NESTED = Tar().dir("a").dir("a/b").dir("a/b/c").file("a/b/c/bar")
SPEC_BIN = Tar().dir("etc").file("etc/config").dir("bin").file("bin/x").dir("bin/tools").file("bin/tools/one")


def test_whiteouts() -> None:
    upper = Tar().gone("file1").gone("a/file2").gone("b").file("file4")
    check(SPEC_BASE, upper, tree="a c c/file3 file4")


def test_a_whiteout_hides_no_entry_of_its_own_layer() -> None:
    lower = Tar().dir("d").file("d/old").file("a", b"old")
    for upper in (Tar().gone("a").file("a", b"new").gone("d").dir("d").file("d/new"),):
        check(lower, upper, tree="a d d/new")
    check(lower, Tar().file("a", b"new").gone("a").dir("d").file("d/new").gone("d"), tree="a d d/new")


def test_opaque_before_and_behind() -> None:
    check(SPEC_BIN, Tar().dir("bin").opaque("bin"), tree="etc etc/config bin")
    parts = Tar().dir("a/b").dir("a/b/c").file("a/b/c/foo")
    before = Tar().dir("a").opaque("a").raw(parts.end(0))
    behind = Tar().dir("a").raw(parts.end(0)).opaque("a")
    for upper in (before, behind):
        check(SPEC_NESTED, upper, tree="a a/b a/b/c a/b/c/foo")


def test_an_opaque_root() -> None:
    check(SPEC_BIN, Tar().raw(Tar().file(".wh..wh..opq").end(0)).file("x"), tree="x")


def test_a_whiteout_of_what_is_not_there() -> None:
    check(SPEC_BASE, Tar().gone("nothing").gone("no/folder/x").gone("file1/x").opaque("nowhere"))


def test_a_folder_keeps_its_content_when_its_metadata_changes() -> None:
    upper = Tar().dir("c", mode=0o700, uid=5, xattrs={"user.a": b"1"})
    tree = tree_of([check(SPEC_BASE, upper)])
    assert (tree[b"c"].mode, tree[b"c"].uid, tree[b"c"].xattrs) == (0o700, 5, (("user.a", b"1"),))
    assert b"c/file3" in tree


def test_replaced_kinds() -> None:
    lower = Tar().dir("d").file("d/x").file("f", b"f").symlink("s", "d")
    check(lower, Tar().file("d", b"file").dir("f").dir("s").file("s/y"), tree="d f s s/y")
    check(lower, Tar().file("d", b"file"), Tar().dir("d"), tree="d f s")


def test_a_folder_in_the_place_of_one_that_was_removed_hides_what_the_base_has() -> None:
    lower = Tar().dir("d").file("d/x").dir("d/e").file("d/e/y")
    layers = (lower, Tar().gone("d"), Tar().dir("d").file("d/new"))
    check(*layers, tree="d d/new")
    assert paths(run(*layers, base=1)[1]) == ["d", "d/.wh..wh..opq", "d/new"]
    check(lower, Tar().gone("d").file("d/z/new"), tree="d d/z d/z/new")


def test_whiteouts_stay_above_a_base_only_where_it_has_something() -> None:
    upper = Tar().gone("file1").gone("nothing").gone("a").file("new")
    third = Tar().gone("new").file("a", b"file").gone("c/file3")
    assert paths(run(SPEC_BASE, upper, third, base=1)[1]) == [".wh.file1", "a", "c/.wh.file3"]


def test_what_only_implies_a_folder() -> None:
    tree = tree_of([check(Tar().file("a/b/c"), Tar().gone("a/b/c"), tree="a a/b")])
    assert tree[b"a/b"].mode == 0o755


def test_a_removed_target_leaves_its_content_to_the_links() -> None:
    lower = Tar().file("a", b"content", uid=3).link("b", "a", uid=3).link("c", "a", uid=3)
    for upper in (Tar().gone("a"), Tar().file("a", b"other"), Tar().dir("a")):
        squashed = check(lower, upper)
        tree = tree_of([squashed])
        assert tree[b"b"].group == (b"b", b"c")
        assert (tree[b"b"].size, tree[b"b"].uid) == (7, 3)


def test_a_link_to_what_the_base_has_stays_a_link_and_is_a_file_once_the_base_has_it_not() -> None:
    lower = Tar().file("a", b"content").link("b", "a")
    out = run(lower, Tar().link("up", "a"), Tar().gone("a"), base=1)[1]
    up = opened(out).getmember("up")
    assert (up.islnk(), up.linkname) == (True, "b")
    out = run(lower, Tar().link("up", "a"), Tar().gone("a").gone("b"), base=1)[1]
    content = opened(out).extractfile("up")
    assert content is not None
    assert content.read() == b"content"


def test_links_that_say_something_else_than_their_file() -> None:
    """Kept as they are where nothing changes, in their order; refused where it would matter who applies it."""
    lower = Tar().file("b", b"x", uid=1).link("c", "b", uid=2).link("a", "b", uid=3)
    assert paths(check(lower)) == ["b", "c", "a"]
    with pytest.raises(AmbiguousLayers, match="another owner"):
        run(lower, Tar().gone("b"))
    xattrs = Tar().file("b", b"x", xattrs={"user.a": b"1"})
    check(Tar().raw(xattrs.end(0)).link("c", "b"), Tar().gone("b"))
    with pytest.raises(AmbiguousLayers, match="another owner"):
        run(Tar().raw(xattrs.end(0)).link("c", "b", xattrs={"user.a": b"2"}), Tar().gone("b"))


@pytest.mark.parametrize(
    "upper",
    [
        Tar().file("lib/x"),
        Tar().dir("lib/x"),
        Tar().gone("lib/x"),
        Tar().opaque("lib"),
        Tar().link("y", "lib/x"),
        Tar().file("lib/deep/x"),
    ],
    ids=["file", "folder", "whiteout", "opaque", "hardlink", "implied"],
)
def test_what_lies_below_a_symlink_is_refused(upper: Tar) -> None:
    lower = Tar().dir("usr").dir("usr/lib").file("usr/lib/x").symlink("lib", "usr/lib")
    with pytest.raises(AmbiguousLayers, match="below the symlink 'lib'") as caught:
        run(lower, upper)
    assert caught.value.layer == 1


def test_a_folder_in_the_place_of_a_symlink_is_opaque_as_overlayfs_writes_it() -> None:
    lower = Tar().dir("usr").file("usr/x").symlink("lib", "usr")
    check(lower, Tar().dir("lib").opaque("lib").file("lib/y"), tree="usr usr/x lib lib/y")


def test_sparse_files_stay_sparse() -> None:
    layers = IMAGES["sparse"]().tars
    result, squashed = run(*layers)
    assert result.size < 200_000
    assert tree_of([squashed])[b"linked"].size == 3 << 20
    old = run(*IMAGES["sparse_gnu"]().tars)[0]
    assert old.size < 100_000


def test_what_is_left_of_each_layer() -> None:
    result = run(SPEC_BASE, Tar().file("x"), Tar().gone("x"), Tar())[0]
    assert (result.kept, result.empty) == ((6, 0, 0, 0), (1, 2, 3))


def test_no_layers_at_all() -> None:
    result, squashed = run()
    assert (squashed, result.entries) == (bytes(1024), 0)


def test_the_bytes_do_not_depend_on_the_format_or_order_that_layers_have() -> None:
    one = Tar().dir("d").file("d/a", b"1").file("d/b", b"2")
    other = Tar(tarfile.GNU_FORMAT).file("./d/b", b"2").file("/d/a", b"1").dir("d/")
    assert run(one)[1] == run(other)[1] == run(Tar().file("d/b", b"0"), one)[1]


def test_records_of_pax_that_mean_nothing_here_are_kept() -> None:
    records = {"LIBARCHIVE.xattr.user.b": "MQ", "SCHILY.acl.access": "user::rw-", "VENDOR.x": "ä"}
    squashed = run(Tar().file("a", pax=records))[1]
    assert opened(squashed).getmember("a").pax_headers == records
