"""Damaged and malicious layers are refused with a reason, and nothing else is ever raised."""

import io
from collections.abc import Callable

import pytest
from drift_optimize.squash import DamagedLayer, Unsquashable, squash, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from .corpus import IMAGES, Tar
from .corpus.tars import extended, header, sparse_old, sparse_pax

WHOLE = Tar().file("a", b"1" * 700).file("b", b"2").end()
USTAR = b"ustar\x0000"


def run(*layers: bytes) -> bytes:
    out = io.BytesIO()
    squash([io.BytesIO(layer) for layer in layers], out)
    return out.getvalue()


def flipped(tar: bytes, place: int, value: int = 0xFF) -> bytes:
    return tar[:place] + bytes([tar[place] ^ value]) + tar[place + 1 :]


BAD = {
    "cut short in a header": (WHOLE[:100], "cut short"),
    "cut short in content": (WHOLE[:800], "cut short"),
    "cut short in the second header": (WHOLE[: 512 + 1024 + 7], "cut short"),
    "garbage": (b"garbage" * 1000, "checksum|no number"),
    "wrong checksum": (flipped(WHOLE, 0, 1), "wrong checksum"),
    "wrong second checksum": (flipped(WHOLE, 1536, 1), "wrong checksum"),
    "zeros between": (Tar().file("a").raw(bytes(512)).file("b").end(), "zeros between"),
    "no number": (header(b"a", b"0", 0, {124: b"12z"}), "size of a header is no number"),
    "negative size": (header(b"a", b"0", 0, {124: b"\xff" * 12}), "negative size"),
    "huge size": (header(b"a", b"0", 0, {124: b"\x80" + b"\xff" * 11}), "cut short"),
    "negative owner": (header(b"a", b"0", 0, {108: b"\xff" * 8}), "negative owner"),
    "unknown type": (header(b"a", b"V", 0), "unknown type"),
    "leads out": (Tar().file("../a").end(), "leads out of the image"),
    "leads out later": (Tar().file("a/../../b").end(), "leads out of the image"),
    "hardlink leads out": (Tar().file("a").link("b", "../a").end(), "leads out of the image"),
    "hardlink to nothing": (Tar().link("b", "no").end(), "leads to no file"),
    "hardlink to itself": (Tar().file("a").link("a", "a").end(), "leads to no file"),
    "hardlink to a folder": (Tar().dir("a").link("b", "a").end(), "leads to no file"),
    "hardlink below itself": (Tar().file("f/x").link("f", "f/x").end(), "leads to no file"),
    "below a file": (Tar().file("a").file("a/b").end(), "below a file"),
    "below a whiteout": (Tar().file(".wh.a/b").end(), "below a whiteout"),
    "whiteout of nothing": (Tar().file("d/.wh.").end(), "names nothing"),
    "whiteout of its folder": (Tar().file("d/.wh..").end(), "names nothing"),
    "whiteout of the folder above": (Tar().file("d/.wh...").end(), "names nothing"),
    "root is a file": (Tar().file("./").end(), "root is no directory"),
    "symlink to nothing": (Tar().symlink("a", "").end(), "leads nowhere"),
    "path too long": (Tar().file("x/" * 2050 + "y").end(), "longer than a path"),
    "global header": (extended([(b"path", b"x")], b"g") + WHOLE, "global extended header"),
    "only an extended header": (extended([(b"path", b"x")]), "ends behind an extended header"),
    "huge extended header": (header(b"x", b"x", 1 << 30, magic=USTAR), "extended header of"),
    "malformed extended header": (header(b"x", b"x", 9, magic=USTAR) + b"99 path=x".ljust(512, b"\0"), "malformed"),
    "zero in a name": (extended([(b"path", b"x\0y")]) + WHOLE, "zero byte"),
    "owner in words": (extended([(b"uid", b"root")]) + WHOLE, "uid of an extended header"),
    "time in words": (extended([(b"mtime", b"now")]) + WHOLE, "mtime of an extended header"),
    "sparse out of order": (sparse_old(b"a", 9999, [(2048, b"x" * 512), (0, b"y" * 512)]), "not in order"),
    "sparse beyond its end": (sparse_pax(b"a", 10, [(512, b"x" * 512)], "1.0"), "not in order|not that of"),
    "sparse in parts of blocks": (sparse_pax(b"a", 9999, [(0, b"x"), (512, b"y")], "0.1"), "no whole blocks"),
    "sparse map of words": (extended([(b"GNU.sparse.map", b"a,b"), (b"GNU.sparse.size", b"9")]) + WHOLE, "malformed"),
    "sparse map is missing": (
        extended([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")])
        + Tar().file("a", b"x" * 512).end(),
        "malformed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_with_a_reason(name: str) -> None:
    tar, reason = BAD[name]
    with pytest.raises(DamagedLayer, match=reason) as caught:
        run(WHOLE, tar)
    assert caught.value.layer == 1
    assert str(caught.value).startswith("layer 1: ")


def test_what_is_odd_and_good() -> None:
    comment = extended([(b"comment", b"0" * 40)], b"g")
    assert run(comment + WHOLE) == run(WHOLE + b"anything behind the end" * 99) == run(WHOLE)
    # Signed sums, as some old writers made them.
    name = "ä".encode() * 9
    block = bytearray(header(name, b"0", 0))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    assert run(bytes(block)) == run(header(name, b"0", 0))


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_ENTRIES", 10)
    run(Tar().file("a/b/c/d/e/f/g/h/i").end())
    with pytest.raises(DamagedLayer, match="more than 10 entries"):
        run(Tar().file("a/b/c/d/e/f/g/h/i/j/k").end())
    with pytest.raises(DamagedLayer, match="more than 10 entries"):
        run(*[Tar().file("a").file("b").end()] * 6)


class Shrinking(io.BytesIO):
    """A layer that is whole while its headers are read, and not afterwards."""

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset == 512:
            self.truncate(600)
        return super().seek(offset, whence)


def test_a_layer_that_changes_while_it_is_read() -> None:
    with pytest.raises(DamagedLayer, match="became shorter"):
        squash([Shrinking(Tar().file("a", b"x" * 700).end(0))], io.BytesIO())


def damage(draw: Callable[[st.SearchStrategy[int]], int], tar: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        tar = flipped(tar, draw(st.integers(0, min(len(tar), 6000) - 1)), draw(st.integers(1, 255)))
    return tar[: draw(st.integers(0, len(tar)))] if draw(st.integers(0, 1)) else tar


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nothing_else_is_raised(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["plain", "hardlinks", "xattrs", "long_names", "sparse", "sparse_gnu", "times"]))
    layers = list(IMAGES[name]().tars)
    layers[0] = damage(data.draw, layers[0])
    out = io.BytesIO()
    try:
        squash([io.BytesIO(layer) for layer in layers], out)
    except Unsquashable:
        return
    squash([io.BytesIO(out.getvalue())], io.BytesIO())
