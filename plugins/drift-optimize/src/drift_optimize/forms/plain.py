"""Forms that pack a tar as one stream: gzip, zstd, and none at all."""

from typing import Any, Protocol

from drift_optimize.forms.output import Output

GZIP_LEVELS = {1: 2, 6: 7}
"""zlib-ng's level for one of gzip; others are the same. These make what gzip's own make; 1 a fifth more, 6 2 to 3 %."""


WINDOW_LOGS = {6: 23, 3: 22}
"""The window's logarithm from a level on: 8 MiB, the largest that every reader of zstd should know (RFC 8878 section
3.1.1.1.2), and 4 MiB where twice that takes a tenth more CPU for hardly more. Layers become 0 to 20 % smaller.
"""


class Packer(Protocol):
    """A compressor."""

    def compress(self, data: bytes, /) -> bytes:
        """Takes bytes, and returns what is packed of these and of earlier ones."""
        ...

    def flush(self) -> bytes:
        """Returns what is left."""
        ...


class Stored:
    """Compresses nothing."""

    def compress(self, data: bytes, /) -> bytes:
        """See `Packer`."""
        return data

    def flush(self) -> bytes:
        """See `Packer`."""
        return b""


def gzip_packer(level: int) -> Packer:
    """Returns a compressor for one gzip member without a name or a time."""
    from zlib_ng import zlib_ng  # noqa: PLC0415

    library: Any = zlib_ng  # its annotations are not whole
    packer: Packer = library.compressobj(GZIP_LEVELS.get(level, level), zlib_ng.DEFLATED, 31, 9)
    return packer


def zstd_packer(level: int, threads: int) -> Packer:
    """Returns a compressor for one zstd frame with its checksum; any number of threads but 0 gives the same bytes."""
    import zstandard  # noqa: PLC0415

    parameters: Any = zstandard.ZstdCompressionParameters  # its annotations are not whole
    # Threads hold several windows in memory, and lower levels find nothing more in a wide one.
    logs = [log for least, log in WINDOW_LOGS.items() if level >= least and not threads]
    window = {"window_log": logs[0]} if logs else {}
    chosen = parameters.from_level(level, write_checksum=True, write_content_size=False, threads=threads, **window)
    return zstandard.ZstdCompressor(compression_params=chosen).compressobj()


class Stream:
    """Writes a tar through one compressor."""

    def __init__(self, output: Output, packer: Packer) -> None:
        self._output, self._packer = output, packer

    def add(self, block: bytes) -> None:
        """Takes the next block of the tar."""
        self._output.write(self._packer.compress(block))

    def finish(self) -> dict[str, str]:
        """Writes the end, and returns the annotations of the form, of which there are none."""
        self._output.write(self._packer.flush())
        return {}
