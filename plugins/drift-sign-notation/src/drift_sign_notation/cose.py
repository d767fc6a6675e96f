"""The envelope in CBOR: COSE_Sign1 of RFC 9052, as the specification's "COSE Signature Envelope" narrows it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeGuard

import cbor2
from cryptography.hazmat.primitives.serialization import Encoding

from drift_sign_notation.algorithms import sign
from drift_sign_notation.certificates import read_der
from drift_sign_notation.envelope import (
    AGENT,
    EXPIRY,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_AGENT,
    SIGNING_TIME,
    X509,
    Attributes,
    Envelope,
    critical_of,
    read_attributes,
)
from drift_sign_notation.keys import SigningKey
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import is_array

MEDIA_TYPE: Final = "application/cose"

SIGN1: Final = 18
"""The tag of COSE_Sign1."""

ALGORITHM: Final = 1
CRITICAL: Final = 2
CONTENT_TYPE: Final = 3
CHAIN: Final = 33
PARTS: Final = 4

MOST_ITEMS: Final = 1000
"""Of CBOR in an envelope: real ones have about 50, but 256 KiB may hold so many that nobody else runs for long."""

STRINGS: Final = (2, 3)
"""The kinds of items behind whose length there are as many bytes."""


def read(content: bytes) -> Envelope:
    """Returns what an envelope says. Raises `Refused` where it is not exactly as the specification has it."""
    tagged = _decoded(content, "the envelope")
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != SIGN1:
        raise Refused("the envelope is no tagged COSE_Sign1")
    parts: object = tagged.value
    if not is_array(parts) or len(parts) != PARTS:
        raise Refused("the envelope is no COSE_Sign1")
    encoded, unprotected, payload, signature = parts
    if not (isinstance(encoded, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise Refused("the envelope is no COSE_Sign1, or its payload is detached")
    protected = _decoded(encoded, "the protected header")
    if not _is_map(protected) or not _is_map(unprotected) or protected.keys() & unprotected.keys():
        raise Refused("a header is malformed, or protected and unprotected at once")
    algorithm = protected.get(ALGORITHM)
    if not isinstance(algorithm, int):
        raise Refused("the algorithm is missing")
    chain = unprotected.get(CHAIN)
    if not is_array(chain) or not chain or not all(isinstance(part, bytes) for part in chain):
        raise Refused("the certificates are missing")
    named = {label: value for label, value in protected.items() if isinstance(label, str)}
    return Envelope(
        "cose",
        algorithm,
        read_attributes(named, protected.get(CRITICAL), protected.get(CONTENT_TYPE), _seconds),
        payload,
        _signed(encoded, payload),
        signature,
        tuple(read_der(certificate) for certificate in chain),
    )


def write(key: SigningKey, payload: bytes, attributes: Attributes) -> bytes:
    """Returns an envelope that is signed; blocks for as long as the key needs, RSA some milliseconds."""
    protected: dict[int | str, Any] = {
        ALGORITHM: key.algorithm.cose,
        CRITICAL: critical_of(attributes),
        CONTENT_TYPE: PAYLOAD_TYPE,
        SIGNING_TIME: cbor2.CBORTag(1, int(attributes.signed_at)),
        SCHEME: X509,
    }
    if attributes.expires_at is not None:
        protected[EXPIRY] = cbor2.CBORTag(1, int(attributes.expires_at))
    encoded = cbor2.dumps(protected)
    unprotected = {
        CHAIN: [certificate.public_bytes(Encoding.DER) for certificate in key.chain],
        SIGNING_AGENT: AGENT,
    }
    signature = sign(key.private, _signed(encoded, payload))
    return cbor2.dumps(cbor2.CBORTag(SIGN1, [encoded, unprotected, payload, signature]))


def _signed(protected: bytes, payload: bytes) -> bytes:
    return cbor2.dumps(["Signature1", protected, b"", payload])


def _is_map(value: object) -> TypeGuard[Mapping[int | str, Any]]:
    # A map within a tag is a frozendict, which is no dict.
    return hasattr(value, "keys")


def _seconds(value: object) -> float:
    if isinstance(value, datetime) and not value.microsecond:
        return value.timestamp()
    raise Refused("a time is malformed")


def _refuse(decoder: object, *_: object) -> NoReturn:
    del decoder
    raise Refused("a tag of CBOR has no place in an envelope")


OTHER_TAGS: Final[Mapping[int, Callable[..., Any]]] = dict.fromkeys(
    (0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse
)
"""Tags of which the library makes something, such as a regular expression, that can cost whoever reads it dearly."""


def _has_too_many_items(content: bytes) -> bool:
    place = items = 0
    while place < len(content) and items <= MOST_ITEMS:
        items += 1
        kind, short = divmod(content[place], 32)
        # RFC 8949 section 3: up to 23 it is the number itself, else how many bytes behind it are.
        ends = place + 1 + (1 << short - 24 if 24 <= short < 28 else 0)  # noqa: PLR2004
        number = int.from_bytes(content[place + 1 : ends]) if ends > place + 1 else short
        place = ends + (number if kind in STRINGS else 0)
    return items > MOST_ITEMS


def _decoded(content: bytes, what: str) -> Any:
    if _has_too_many_items(content):
        raise Refused("it is nested too much")
    try:
        value = cbor2.loads(content, semantic_decoders=OTHER_TAGS)
        # The library takes a key twice, longer forms, and anything behind the end; none is written back the same.
        if cbor2.dumps(value, datetime_as_timestamp=True) == content:
            return value
    except (cbor2.CBORError, ValueError, OverflowError, TypeError, RecursionError):
        pass
    raise Refused(f"{what} is malformed CBOR, or not in its shortest form")
