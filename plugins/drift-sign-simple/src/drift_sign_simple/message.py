"""Takes an OpenPGP message apart within bounds, since a parser of all of OpenPGP does more than a signature needs.

Source: RFC 9580, sections 4.2, 5.4, 5.6, 5.9 and 10.3.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drift_sign_simple.refusal import Refused

LARGEST = 128 << 10
"""Most bytes of a message, as it comes and as it is decompressed."""

SIGNATURE, ONE_PASS, COMPRESSED, LITERAL = 2, 4, 8, 11
BINARY = b"b"
PARTIAL = range(224, 255)
INDETERMINATE = 3
OLDER, NEWER = 0b10, 0b11
"""The first two bits of a packet, in the two forms of its length."""

DECOMPRESSORS: Mapping[int, Callable[[], Any]] = {1: lambda: zlib.decompressobj(-15), 2: zlib.decompressobj}
"""ZIP and ZLIB, of which GnuPG takes the first for a signed message unless it is told otherwise."""


class SignedMessage(Struct, frozen=True):
    """The ``payload``, not yet believed, and the packet with its one ``signature``."""

    payload: bytes
    signature: bytes


def read_message(content: bytes) -> SignedMessage:
    """Returns the parts of a signed message: a one-pass signature, literal data and the signature, compressed or not.

    Raises:
        Refused: it is another message, or none; it is cut or goes on; it contradicts itself, or is too large.
    """
    if len(content) > LARGEST:
        raise Refused(f"the message has more than {LARGEST} bytes")
    packets = list(_packets(content))
    if [tag for tag, _ in packets] == [COMPRESSED]:
        packets = list(_packets(_decompressed(packets[0][1])))
    tags = [tag for tag, _ in packets]
    if tags != [ONE_PASS, LITERAL, SIGNATURE]:
        raise Refused(_why_not(tags))
    (_, announced), (_, literal), (_, signature) = packets
    _check_announced(announced, signature)
    return SignedMessage(_payload(literal), _packet(SIGNATURE, signature))


class _Octets:
    """The bytes of a message, taken from its beginning."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._content) - self._position

    def take(self, number: int) -> bytes:
        """Returns as many bytes. Raises `Refused` where there are less."""
        if number > self.left:
            raise Refused("the message is cut")
        self._position += number
        return self._content[self._position - number : self._position]

    def number(self, size: int = 1) -> int:
        """Returns a number that has ``size`` bytes. Raises `Refused`."""
        return int.from_bytes(self.take(size), "big")


def _packets(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the type and the body of each packet. Raises `Refused`."""
    octets = _Octets(content)
    while octets.left:
        header = octets.number()
        if header >> 6 == NEWER:
            tag = header & 0b111111
            yield tag, b"".join(_parts(octets, tag))
        elif header >> 6 == OLDER:
            tag, kind = header >> 2 & 0b1111, header & 0b11
            if kind != INDETERMINATE:
                yield tag, octets.take(octets.number(1 << kind))
            elif tag == COMPRESSED:
                yield tag, octets.take(octets.left)
            else:
                raise Refused("the length of a packet is missing")
        else:
            raise Refused("it is no OpenPGP message")


def _parts(octets: _Octets, tag: int) -> Iterator[bytes]:
    """Yields the parts of a body whose length is in the newer form. Raises `Refused`."""
    while (first := octets.number()) in PARTIAL:
        if tag not in (COMPRESSED, LITERAL):
            raise Refused("a packet comes in parts that may not")
        yield octets.take(1 << (first & 0b11111))
    if first < 192:  # noqa: PLR2004 - section 4.2.1 has these numbers
        yield octets.take(first)
    elif first < PARTIAL.start:
        yield octets.take((first - 192 << 8) + octets.number() + 192)
    else:
        yield octets.take(octets.number(4))


def _decompressed(body: bytes) -> bytes:
    """Returns what is in a packet of compressed data. Raises `Refused`."""
    make = DECOMPRESSORS.get(body[0] if body else 0)
    if make is None:
        raise Refused("the message is neither compressed by ZIP nor by ZLIB")
    decompressor = make()
    try:
        content: bytes = decompressor.decompress(body[1:], LARGEST + 1)
    except zlib.error:
        raise Refused("the compressed data is damaged") from None
    if len(content) > LARGEST:
        raise Refused(f"the message has more than {LARGEST} bytes when it is decompressed")
    if not decompressor.eof or decompressor.unused_data:
        raise Refused("the compressed data is cut, or something follows it")
    return content


def _why_not(tags: list[int]) -> str:
    """Returns why packets are no message with one signature."""
    if tags.count(ONE_PASS) > 1 or tags.count(SIGNATURE) > 1:
        return "there is more than one signature"
    if tags == [SIGNATURE]:
        return "the signature is detached, and its payload missing"
    if tags == [LITERAL]:
        return "the message is not signed"
    if tags == [ONE_PASS, LITERAL]:
        return "the message is cut"
    return "it is no OpenPGP signed message"


def _check_announced(announced: bytes, signature: bytes) -> None:
    """Raises `Refused` where the one-pass signature is of another kind than the signature: readers may believe either.

    In both, the bytes 1 to 3 are the type, and the algorithms of the hash and of the key, in another order.
    """
    if announced[1:4] != bytes([*signature[1:2], *signature[3:4], *signature[2:3]]) or announced[-1:] != b"\x01":
        raise Refused("the message announces another signature than it has")


def _payload(literal: bytes) -> bytes:
    """Returns the data in a literal packet, whose name and date nobody has signed. Raises `Refused`."""
    octets = _Octets(literal)
    if octets.take(1) != BINARY:
        raise Refused("the payload is no binary data")
    octets.take(octets.number())
    octets.take(4)
    return octets.take(octets.left)


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0b11000000 | tag, 255]) + len(body).to_bytes(4, "big") + body
