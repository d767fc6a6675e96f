"""Reads the upload of a plugin, whose library is an array of numbers: 3.6 bytes of text for each of its own.

The body is read as it arrives and the library goes to a file, so that memory is bounded whatever its size. Numbers are
decoded some ten thousand at a time by msgspec, which knows the grammar; only where it refuses is looked for the place.
"""

import asyncio
import re
from collections.abc import AsyncIterable
from typing import IO, Final, TypeVar

import msgspec

from drift_bolt.model import PluginUpload
from drift_bolt.problems import Invalid, TooLarge
from drift_core.api import ALGORITHMS, Digest

T = TypeVar("T")

LARGEST_DOCUMENT: Final = 256 << 10
"""Most bytes of a request without its library."""

BATCH: Final = 256 << 10
"""Bytes of a body that one visit to a thread decodes."""

PIECE: Final = 64 << 10
"""Bytes that are decoded at once: half a millisecond in which nothing else of this process runs."""

LONGEST_NUMBER: Final = 4096
"""Bytes between two commas, most of which can only be space."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[ \t\r\n]+|[^"{}\[\]:, \t\r\n]+', re.DOTALL)
_BYTE = re.compile(rb"[ \t\r\n]*(0|[1-9][0-9]{0,2})[ \t\r\n]*")
_SPACE = b" \t\r\n"
_NUMBERS = msgspec.json.Decoder(list[int])
_KEY = "binary_data"


class BinaryReader:
    """Takes a body piece by piece: the library goes into ``file``, the rest is `document`. For one thread at a time.

    ``limit`` is the most bytes that a library may have.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.size = 0
        self._hash = ALGORITHMS["sha256"].new()
        self._file = file
        self._limit = limit
        self._document = bytearray()
        # Of the document: what was not yet read as tokens, and what is known of those before it.
        self._pending: bytes = b""
        self._depth = 0
        self._last = b""
        self._key: str | None = None
        # Of the array: whether we are in it, the bytes behind the last comma, and where in the body they begin.
        self._inside = False
        self._found = False
        self._offset: int = 0

    @property
    def digest(self) -> Digest:
        """The digest of the library so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises `Invalid` with the offset in the body, `TooLarge`, OSError."""
        while data:
            data = self._array(data) if self._inside else self._tokens(data)

    def finish(self) -> bytes:
        """Returns the document when the body has ended, with 0 in the place of the library. Raises `Invalid`."""
        end = self._offset + len(self._pending)
        if self._inside:
            raise Invalid(f"binary_data is cut short: the body ends at byte {end}", offset=end)
        if not self._found:
            raise Invalid("there is no binary_data", offset=end)
        self._keep(self._pending)
        return bytes(self._document)

    def _tokens(self, data: bytes) -> bytes:
        """Reads the document up to the array, and returns what is behind its bracket."""
        data, place = self._pending + data, 0
        while (match := _TOKEN.match(data, place)) is not None:
            token = match.group()
            # What ends where the data ends may go on in the next piece.
            if match.end() == len(data) and token[:1] not in b"{}[]:,":
                break
            if self._begins(token, self._offset + place):
                self._keep(data[:place] + b"0")
                self._offset += match.end()
                self._pending, self._inside, self._found = b"", True, True
                return data[match.end() :]
            place = match.end()
        self._keep(data[:place])
        self._offset += place
        self._pending = data[place:]
        if len(self._pending) > LARGEST_DOCUMENT:
            raise TooLarge(f"a request without its library has at most {LARGEST_DOCUMENT} bytes")
        return b""

    def _begins(self, token: bytes, offset: int) -> bool:
        """Takes note of a token, and says whether it is the bracket of the array."""
        if not token.strip(_SPACE):
            return False
        if self._key == _KEY and self._last == b":":
            if token != b"[":
                raise Invalid(f"binary_data is no array, at byte {offset}", offset=offset)
            if self._found:
                raise Invalid(f"binary_data is there twice, at byte {offset}", offset=offset)
            self._last, self._key = token, None
            return True
        if token[:1] == b'"' and self._depth == 1 and self._last in (b"{", b","):
            self._key = _text(token)
        elif token in (b"{", b"["):
            self._depth, self._key = self._depth + 1, None
        elif token in (b"}", b"]"):
            self._depth -= 1
        self._last = token if token[:1] in b"{}[]:," else b"value"
        return False

    def _keep(self, part: bytes) -> None:
        self._document += part
        if len(self._document) > LARGEST_DOCUMENT:
            raise TooLarge(f"a request without its library has at most {LARGEST_DOCUMENT} bytes")

    def _array(self, data: bytes) -> bytes:
        """Reads numbers, and returns what is behind the array; nothing where it goes on."""
        data = self._pending + data
        end = data.find(b"]")
        stop = len(data) if end < 0 else end
        place = 0
        while stop - place > PIECE:
            comma = data.rfind(b",", place, place + PIECE)
            if comma < 0:
                break
            self._decode(data[place:comma], self._offset + place)
            place = comma + 1
        if end >= 0:
            # An array of nothing is no mistake; nothing behind a comma is one.
            if self.size or data[place:end].strip(_SPACE):
                self._decode(data[place:end], self._offset + place)
            self._offset += end + 1
            self._pending, self._inside, self._last = b"", False, b"value"
            return data[end + 1 :]
        comma = data.rfind(b",", place)
        if comma >= 0:
            self._decode(data[place:comma], self._offset + place)
            place = comma + 1
        self._offset += place
        self._pending = data[place:]
        if len(self._pending) > LONGEST_NUMBER:
            self._complain(self._pending, self._offset, always=True)
        return b""

    def _decode(self, part: bytes, offset: int) -> None:
        try:
            decoded = bytes(_NUMBERS.decode(b"[" + part + b"]"))
        except (ValueError, OverflowError):
            self._complain(part, offset)
            raise
        if not decoded:
            self._complain(part, offset)
        self.size += len(decoded)
        if self.size > self._limit:
            raise TooLarge(f"a library has at most {self._limit} bytes", max_bytes=self._limit)
        self._hash.update(decoded)
        self._file.write(decoded)

    def _complain(self, part: bytes, offset: int, *, always: bool = False) -> None:
        """Raises `Invalid` for the first number in ``part`` that is no byte."""
        for number, text in enumerate(part.split(b",")):
            match = _BYTE.fullmatch(text)
            if always or match is None or int(match[1]) > 255:  # noqa: PLR2004 - of a byte
                index, place = self.size + number, offset + len(text) - len(text.lstrip(_SPACE))
                shown = text.strip(_SPACE)[:32].decode("ascii", "replace")
                message = f"binary_data[{index}] is {shown!r}, at byte {place}: not a whole number from 0 to 255"
                raise Invalid(message, offset=place, index=index)
            offset += len(text) + 1


def _text(token: bytes) -> str | None:
    try:
        return msgspec.json.decode(token, type=str)
    except ValueError:
        return None


async def read_upload(body: AsyncIterable[bytes], file: IO[bytes], limit: int) -> tuple[PluginUpload, BinaryReader]:
    """Reads a whole upload; the library is in ``file``, its digest and size in the reader.

    Raises `Invalid` with the offset of what is wrong, `TooLarge`, OSError, and what ``body`` raises.
    """
    reader = BinaryReader(file, limit)
    batch: list[bytes] = []
    waiting = 0
    async for chunk in body:
        batch.append(chunk)
        waiting += len(chunk)
        if waiting >= BATCH:
            await asyncio.to_thread(reader.feed, b"".join(batch))
            batch, waiting = [], 0
    await asyncio.to_thread(reader.feed, b"".join(batch))
    return decoded(reader.finish(), PluginUpload), reader


def decoded(content: bytes, kind: type[T]) -> T:
    """Returns what JSON holds. Raises `Invalid`."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"the body does not fit: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is no JSON: {error}") from error
