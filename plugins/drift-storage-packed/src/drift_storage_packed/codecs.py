"""The three algorithms: how a piece of a blob becomes a frame of its own, and comes back. All of it blocks."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct


class Codec(Struct, frozen=True):
    """One algorithm. ``number`` is written into packed blobs and never changes.

    ``packer`` takes the level and returns a function for use in one thread at a time. ``unpack`` takes a frame and the
    size in bytes of what it holds, and returns that or raises one of ``errors``; it never returns more. ``coding`` is
    the content coding of HTTP that a frame is, or None; ``chained`` says that frames one after the other are one, too.
    """

    number: int
    packer: Callable[[int], Callable[[bytes], bytes]]
    unpack: Callable[[bytes, int], bytes]
    coding: str | None = None
    chained: bool = False


class BadFrameError(Exception):
    """A frame cannot be unpacked to what it should hold."""


def _zstd_packer(level: int) -> Callable[[bytes], bytes]:
    import zstandard  # noqa: PLC0415 - only the algorithm that is used

    # The checksum is for those who unpack it themselves: see `Codec.coding`.
    packer = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)

    def pack(piece: bytes) -> bytes:
        # What it returns keeps the memory of the longest possible frame.
        return bytes(memoryview(packer.compress(piece)))

    return pack


def _zstd_unpack(frame: bytes, size: int) -> bytes:
    import zstandard  # noqa: PLC0415

    try:
        if zstandard.frame_content_size(frame) != size:
            raise BadFrameError
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise BadFrameError from error


def _lz4_packer(level: int) -> Callable[[bytes], bytes]:
    frames = _lz4()

    def pack(piece: bytes) -> bytes:
        packed: bytes = frames.compress(
            piece, compression_level=level, block_size=frames.BLOCKSIZE_MAX4MB, content_checksum=True, store_size=True
        )
        return packed

    return pack


def _lz4_unpack(frame: bytes, size: int) -> bytes:
    frames = _lz4()
    try:
        if frames.get_frame_info(frame)["content_size"] != size:
            raise BadFrameError
        piece: bytes = frames.decompress(frame)
    except RuntimeError as error:
        raise BadFrameError from error
    return piece


def _lz4() -> Any:
    import lz4.frame  # type: ignore[import-untyped]  # noqa: PLC0415

    return lz4.frame


def _brotli_packer(level: int) -> Callable[[bytes], bytes]:
    brotli = _brotli()

    def pack(piece: bytes) -> bytes:
        packed: bytes = brotli.compress(piece, quality=level)
        return packed

    return pack


def _brotli_unpack(frame: bytes, size: int) -> bytes:
    brotli = _brotli()
    unpacker = brotli.Decompressor()
    try:
        piece: bytes = unpacker.process(frame, output_buffer_limit=size + 1)
        while not unpacker.is_finished() and len(piece) <= size:
            more: bytes = unpacker.process(b"", output_buffer_limit=size + 1 - len(piece))
            if not more:
                break
            piece += more
    except brotli.error as error:
        raise BadFrameError from error
    return piece


def _brotli() -> Any:
    import brotli  # type: ignore[import-untyped]  # noqa: PLC0415

    return brotli


CODECS: dict[str, Codec] = {
    "zstd": Codec(1, _zstd_packer, _zstd_unpack, "zstd", chained=True),
    "lz4": Codec(2, _lz4_packer, _lz4_unpack),
    "brotli": Codec(3, _brotli_packer, _brotli_unpack, "br"),
}
"""Each algorithm by the name that the configuration and the tables have for it."""
