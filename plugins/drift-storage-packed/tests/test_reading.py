"""Ranges of packed blobs: every one is that of the original, and costs the frames that hold it."""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from drift_storage_packed.codecs import CODECS, BadFrameError
from drift_storage_packed.container import DamagedIndexError, Index, IndexWriter, index_size
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift_core.api import Digest
from drift_core.conformance.suites.storage import MIB, push, read
from tests.tools import tool

from .conftest import OpenLayer, lying, pack, packed

ALGORITHMS = sorted(CODECS)


def text(size: int, seed: int = 0) -> bytes:
    """Returns bytes that compress, some parts well and some not at all."""
    source = random.Random(seed)
    words = [source.randbytes(source.randint(1, 9)) for _ in range(500)]
    content = bytearray()
    while len(content) < size:
        content += b" ".join(source.choices(words, k=2000)) + source.randbytes(500) + bytes(source.randint(0, 5000))
    return bytes(content[:size])


async def compare_ranges(open_layer: OpenLayer, algorithm: str, size: int, number: int) -> None:
    content = text(size)
    source = random.Random(1)
    async with open_layer(algorithm=algorithm, frame_kib=64) as store:
        digest = await packed(store, content)
        for _ in range(number):
            start = source.randint(0, size)
            stop = min(size, start + source.choice([0, 1, 100, 65536, 300_000, size]))
            assert await read(store, digest, start, stop) == content[start:stop]
        assert await read(store, digest) == content


@pytest.mark.parametrize("database_url", [None])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_ranges(open_layer: OpenLayer, algorithm: str) -> None:
    await compare_ranges(open_layer, algorithm, 3_000_001, 300)


@pytest.mark.soak
@pytest.mark.parametrize("database_url", [None])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_ten_thousand_ranges(open_layer: OpenLayer, algorithm: str) -> None:
    await compare_ranges(open_layer, algorithm, 20_000_001, 10_000)


class Counting:
    """Counts the bytes that are read beneath."""

    def __init__(self, beneath: Any) -> None:
        self._beneath = beneath
        self.bytes_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in self._beneath.read(digest, start, stop):
            self.bytes_read += len(chunk)
            yield chunk


async def read_the_end_of(open_layer: OpenLayer, size: int) -> None:
    block = text(MIB)

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(size // MIB):
            yield number.to_bytes(8, "big") + block[8:]

    async with open_layer() as store:
        upload = await store.begin()
        await store.append(upload, 0, chunks())
        state = hashlib.sha256()
        async for chunk in chunks():
            state.update(chunk)
        digest = Digest(f"sha256:{state.hexdigest()}")
        await store.commit(upload, digest)
        assert [one.outcome for one in await pack(store)] == ["packed"]
        counting: Any = Counting(store.beneath)
        store.reader._beneath = counting
        place = size - 3 * MIB
        expected = (size // MIB - 3).to_bytes(8, "big")
        for first in (index_size(size, 256 << 10), 0):
            counting.bytes_read = 0
            assert await read(store, digest, place, place + 8) == expected
            # One frame, and once the index.
            assert counting.bytes_read <= first + (256 << 10)
            assert counting.bytes_read >= first


@pytest.mark.parametrize("database_url", [None])
async def test_a_range_reads_the_frames_that_hold_it(open_layer: OpenLayer) -> None:
    await read_the_end_of(open_layer, 64 * MIB)


@pytest.mark.soak
@pytest.mark.parametrize("database_url", [None])
async def test_a_range_of_a_large_blob(open_layer: OpenLayer) -> None:
    await read_the_end_of(open_layer, 1024 * MIB)


@pytest.mark.parametrize("database_url", [None])
@pytest.mark.parametrize(("algorithm", "program"), [("zstd", ("zstd", "-dc")), ("lz4", ("lz4", "-dcm"))])
async def test_programs_unpack_it(
    open_layer: OpenLayer, algorithm: str, program: tuple[str, ...], tmp_path: Path
) -> None:
    """The whole packed blob, index and all, is one stream to the program of its algorithm."""
    content = text(1_000_001)
    async with open_layer(algorithm=algorithm, frame_kib=64) as store:
        await packed(store, content)
        (form,) = await lying(store)
        file = tmp_path / f"form.{'zst' if algorithm == 'zstd' else algorithm}"
        file.write_bytes(await read(store.beneath, form))
    # Ours, and so trusted to be well: the programs' own checksums count, too.
    command = [tool(program[0]), *program[1:], str(file)]
    assert (await run_process(command)).stdout == content


@pytest.mark.parametrize("database_url", [None])
@pytest.mark.parametrize(
    ("algorithm", "size", "accepted", "coding"),
    [
        ("zstd", 1_000_001, {"zstd", "br"}, "zstd"),
        ("zstd", 1_000_001, {"br", "gzip"}, None),
        ("brotli", 50_000, {"br"}, "br"),
        ("brotli", 1_000_001, {"br"}, None),
        ("lz4", 50_000, {"zstd", "br", "gzip", "lz4"}, None),
    ],
)
async def test_encoded(
    open_layer: OpenLayer, algorithm: str, size: int, accepted: set[str], coding: str | None
) -> None:
    """A client that takes the coding gets the blob as it lies, and without the salt that makes its digest unknown."""
    content = text(size)
    async with open_layer(algorithm=algorithm, frame_kib=64) as store:
        digest = await packed(store, content)
        found = await store.encoded(digest, accepted)
        if coding is None:
            assert found is None
            return
        assert found is not None
        assert found.coding == coding
        sent = b"".join([chunk async for chunk in found.chunks])
        assert len(sent) == found.size
        assert Digest.of(sent) not in await lying(store)
    if coding == "zstd":
        command = [tool("zstd"), "-dc"]
        assert (await run_process(command, input=sent)).stdout == content
    else:
        import brotli  # type: ignore[import-untyped]  # noqa: PLC0415

        assert brotli.decompress(sent) == content


@pytest.mark.parametrize("database_url", [None])
async def test_what_is_not_packed_is_not_encoded(open_layer: OpenLayer) -> None:
    async with open_layer() as store:
        digest = (await push(store, text(10_000))).digest
        assert await store.encoded(digest, {"zstd"}) is None
        assert await store.encoded(Digest.of(b"never pushed"), {"zstd"}) is None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=400) | st.builds(lambda one, n: one * n, st.binary(max_size=8), st.integers(0, 60)),
    algorithm=st.sampled_from(ALGORITHMS),
    frame_size=st.integers(1, 100),
    data=st.data(),
)
def test_any_content(content: bytes, algorithm: str, frame_size: int, data: st.DataObject) -> None:
    """What frames and index say of any content is that content; and one changed byte of the index is found."""
    digest = Digest.of(content)
    writer = IndexWriter(digest, algorithm, frame_size)
    pack = CODECS[algorithm].packer(1)
    frames = []
    for start in range(0, len(content), frame_size):
        frames.append(pack(content[start : start + frame_size]))
        writer.add(frames[-1], len(content[start : start + frame_size]))
    raw = writer.finish()
    assert len(raw) == index_size(len(content), frame_size)
    index = Index.parse(raw, digest, algorithm, len(content), frame_size)
    whole = b"".join(frames)
    assert index.data_size == len(whole)
    lie = [whole[index.offset(n) : index.offset(n) + index.length(n)] for n in range(index.frames)]
    assert b"".join(index.unpack(n, frame) for n, frame in enumerate(lie)) == content
    for n, frame in enumerate(lie[:3]):
        with pytest.raises(BadFrameError):
            index.unpack(n, frame[:-1] + bytes([frame[-1] ^ 1]))
    place = data.draw(st.integers(0, len(raw) - 1))
    broken = raw[:place] + bytes([raw[place] ^ (1 << data.draw(st.integers(0, 7)))]) + raw[place + 1 :]
    with pytest.raises(DamagedIndexError):
        Index.parse(broken, digest, algorithm, len(content), frame_size)
    with pytest.raises(DamagedIndexError):
        Index.parse(raw, Digest.of(content + b"x"), algorithm, len(content), frame_size)
