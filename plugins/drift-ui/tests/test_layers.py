"""Layers are listed as their bytes pass by, whatever they are."""

import gzip
import io
import tarfile
from typing import Any

import pytest
import zstandard
from drift_ui import layers
from drift_ui.documents import NotReadable
from drift_ui.layers import Entry, Layers, list_tar

from drift_core.api import BlobUnknown, Digest

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
