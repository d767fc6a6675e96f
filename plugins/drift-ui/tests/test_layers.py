"""Layers are listed as their bytes pass by, whatever they are."""

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from drift_ui import layers
from drift_ui.documents import NotReadable
from drift_ui.layers import Entry, Layers, list_tar

from drift_core.api import BlobUnknown, Denied, Digest

from .shelf import Shelf, local


def tar_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content[: member.size]))
    return raw.getvalue()


def member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size = size
    for field, value in fields.items():
        setattr(found, field, value)
    return found


PLAIN = tar_of(
    member("./etc", type=tarfile.DIRTYPE, mode=0o755),
    member("etc/hosts", 5, uid=1, gid=2, mode=0o644),
    member("etc/" + "long" * 60, 3),
    member("bin/sh", type=tarfile.SYMTYPE, linkname="/bin/busybox"),
    content=b"hello",
)
ENTRIES = [
    Entry("etc", "directory", 0, "0755", "0:0", ""),
    Entry("etc/hosts", "file", 5, "0644", "1:2", ""),
    Entry("etc/" + "long" * 60, "file", 3, "0644", "0:0", ""),
    Entry("bin/sh", "link", 0, "0644", "0:0", "/bin/busybox"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["tar", "gzip", "zstd"])
def test_a_layer_is_listed(pack: Any) -> None:
    listing = list_tar(io.BytesIO(pack(PLAIN)))  # type: ignore[arg-type]
    assert (listing.entries, listing.cut) == (ENTRIES, "")


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar at all", b"\x1f\x8bno gzip", b"\x28\xb5\x2f\xfdno zstd", b"{}" * 4000],
    ids=["empty", "text", "gzip", "zstd", "json"],
)
def test_what_is_no_tar_is_none(content: bytes) -> None:
    with pytest.raises(NotReadable):
        list_tar(io.BytesIO(content))  # type: ignore[arg-type]


def test_a_damaged_layer_is_listed_as_far_as_it_goes() -> None:
    whole = tar_of(member("first", 1), member("second", 3 << 20), content=bytes(3 << 20))
    listing = list_tar(io.BytesIO(whole[: 2 << 20]))  # type: ignore[arg-type]
    assert [entry.path for entry in listing.entries] == ["first", "second"]
    assert "damaged" in listing.cut
    with pytest.raises(NotReadable):
        list_tar(io.BytesIO(gzip.compress(PLAIN)[:60]))  # type: ignore[arg-type]


def test_a_layer_that_unpacks_to_much_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST_UNPACKED", 4 << 20)
    bomb = gzip.compress(
        tar_of(member("a", 1), content=b"a")[:1024] + tar_of(member("zeros", 64 << 20), content=b"\0" * (64 << 20))
    )
    listing = list_tar(io.BytesIO(bomb))  # type: ignore[arg-type]
    assert [entry.path for entry in listing.entries] == ["a", "zeros"]
    assert "looked through" in listing.cut


def test_only_so_many_files_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST_ENTRIES", 3)
    listing = list_tar(io.BytesIO(PLAIN))  # type: ignore[arg-type]
    assert (len(listing.entries), listing.cut) == (3, "only the first 3 files are listed")


def test_a_header_that_would_be_large_in_memory_is_refused() -> None:
    header = member("big", (64 << 20), type=tarfile.XHDTYPE)
    with pytest.raises(NotReadable):
        list_tar(io.BytesIO(header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096))  # type: ignore[arg-type]


async def test_a_layer_is_read_once_and_only_where_it_is_held() -> None:
    shelf = Shelf()
    digest = Digest(shelf.blob(gzip.compress(PLAIN)))
    found, registry = Layers(), local(shelf)
    first = await found.listing(registry, "team/app", digest)
    assert first.entries == ENTRIES
    assert await found.listing(registry, "team/app", digest) is first
    del shelf.blobs[digest]
    with pytest.raises(BlobUnknown):
        await found.listing(registry, "team/app", digest)


def packed(*parts: bytes) -> io.RawIOBase:
    return io.BytesIO(b"".join(parts) + bytes(1024))  # type: ignore[return-value]


def header(name: str, kind: bytes, content: bytes = b"") -> bytes:
    """Returns a header with what belongs to it, as no writer of tars would make it."""
    block = member(name, len(content), type=kind).tobuf(tarfile.GNU_FORMAT)
    return block + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def record(text: bytes) -> bytes:
    size = next(size for size in range(len(text), len(text) + 10) if len(b"%d %s\n" % (size, text)) == size)
    return b"%d %s\n" % (size, text)


def test_what_a_global_header_says_is_not_copied_to_every_file() -> None:
    everywhere = header("g", tarfile.XGLTYPE, record(b"path=everywhere"))
    listing = list_tar(packed(everywhere, header("one", tarfile.REGTYPE), everywhere, header("two", tarfile.REGTYPE)))
    assert ([entry.path for entry in listing.entries], listing.cut) == (["one", "two"], "")


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_chain_of_headers_comes_to_an_end(kind: bytes) -> None:
    listing = list_tar(packed(header("file", tarfile.REGTYPE), *[header("x", kind, record(b"a=b"))] * 5000))
    assert [entry.path for entry in listing.entries] == ["file"]
    assert "damaged" in listing.cut


def test_headers_are_small() -> None:
    with pytest.raises(NotReadable):
        list_tar(packed(header("x", tarfile.XHDTYPE, record(b"comment=" + b"a" * (65 << 10))), PLAIN))


def test_sparse_files_are_listed_without_their_maps() -> None:
    old = bytearray(header("old", tarfile.GNUTYPE_SPARSE))
    # More of the map follows, and the size of the whole file (GNU tar, "Old GNU Format").
    old[482:495] = b"\1" + b"00000001000\0"
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 256 + sum(old[156:512]))
    more = (b"%011o\0" % 1 * 42).ljust(504, b"\0")
    pax = b"".join(map(record, [b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=7"]))
    pairs = b"".join(map(record, [b"GNU.sparse.size=9", b"GNU.sparse.map=no numbers"]))
    listing = list_tar(
        packed(
            bytes(old),
            *[more + b"\1" + bytes(7), more + bytes(8)],
            *[header("x", tarfile.XHDTYPE, pax), header("new", tarfile.REGTYPE, b"no number\n" + bytes(502))],
            *[header("x", tarfile.XHDTYPE, pairs), header("pairs", tarfile.REGTYPE)],
        )
    )
    assert [(entry.path, entry.size) for entry in listing.entries] == [("old", 512), ("new", 7), ("pairs", 9)]
    assert listing.cut == ""


def test_names_are_bounded_one_by_one_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [member("a" * 5000), member("b", type=tarfile.SYMTYPE, linkname="c" * 5000)]
    listing = list_tar(packed(tar_of(*long)))
    assert [(len(entry.path), len(entry.target)) for entry in listing.entries] == [(4096, 0), (1, 4096)]
    monkeypatch.setattr(layers, "MOST_CHARACTERS", 5000)
    listing = list_tar(packed(tar_of(*long)))
    assert (len(listing.entries), listing.cut) == (1, "its names are too long to be listed whole")


async def test_who_waits_for_the_same_layer_gets_the_same_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "AT_ONCE", 1)
    shelf = Shelf()
    digest = Digest(shelf.blob(PLAIN))
    found, registry = Layers(), local(shelf)
    one, other = await asyncio.gather(*(found.listing(registry, "team/app", digest) for _ in range(2)))
    assert one is other


class Watched:
    """A registry of one blob, which says whether it was let go of, and refuses it when told to."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.closed = 0
        self.refuses = False

    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        del repository, digest
        try:
            if self.refuses:
                raise Denied
            yield self.content
            yield bytes(1)
        finally:
            self.closed += 1


async def test_a_layer_is_let_go_of_whatever_it_is() -> None:
    watched: Any = Watched(b"no tar at all" * 100_000)
    with pytest.raises(NotReadable):
        await Layers().listing(watched, "app", Digest.of(b""))
    assert watched.closed == 1


async def test_gates_are_asked_also_for_a_layer_that_is_remembered() -> None:
    watched: Any = Watched(PLAIN)
    found = Layers()
    await found.listing(watched, "app", Digest.of(b""))
    watched.refuses = True
    with pytest.raises(Denied):
        await found.listing(watched, "app", Digest.of(b""))
