"""Reads a JWT as far as it may be read before anybody knows who signed it, and then verifies it."""

import base64
import binascii
import re
from collections.abc import Collection
from typing import Any

import jwt
import msgspec
from msgspec import Struct

from drift_core.api import Unauthorized

MAX_TOKEN = 16 << 10
"""Longest token in characters; a longer one is refused before a byte of it is read."""

FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class Header(Struct, frozen=True):
    """What counts of a JOSE header (RFC 7515 section 4.1).

    Keys that the token brings along, ``jwk``, ``jku``, ``x5u`` and ``x5c``, are never looked at.
    """

    alg: str
    kid: str | None = None
    crit: Any = msgspec.UNSET
    b64: Any = msgspec.UNSET


class _Claims(Struct, frozen=True):
    iss: str | None = None


class Presented(Struct, frozen=True):
    """A token as it was presented, of which nothing is verified; ``issuer`` is who it says has made it."""

    token: str
    header: Header
    issuer: str | None


def present(token: str) -> Presented:
    """Returns what a token says of itself. Raises `Unauthorized` for what is no JWT, or none that Drift takes."""
    if len(token) > MAX_TOKEN:
        raise Unauthorized(f"the token is longer than {MAX_TOKEN} characters")
    if FORM.fullmatch(token) is None:
        raise Unauthorized("the token is malformed")
    header, claims, _ = token.split(".")
    try:
        read = msgspec.json.decode(_decoded(header), type=Header)
        issuer = msgspec.json.decode(_decoded(claims), type=_Claims).iss
    # Deep nesting ends the recursion of the parser; bytes that are not UTF-8 are a ValueError.
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Unauthorized("the token is malformed") from None
    if read.crit is not msgspec.UNSET or read.b64 is not msgspec.UNSET:
        raise Unauthorized("the token needs an extension that is not understood")
    return Presented(token, read, issuer)


def verify(presented: Presented, key: Any, algorithm: str, audience: str, skew: float) -> dict[str, Any]:
    """Returns the claims of a token that ``key`` has signed for ``audience``; ``skew`` is in seconds.

    ``algorithm`` is that of the key, and the token has to agree (RFC 8725 section 3.1). It has to have an end, a
    subject and an issuer. Raises `Unauthorized`, which says in which way it is not good and nothing else.
    """
    if presented.header.alg != algorithm:
        raise Unauthorized("the token is signed by another algorithm than its key is for")
    required = ["exp", "sub", "iss", "aud"]
    try:
        return jwt.decode(
            presented.token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=presented.issuer,
            leeway=skew,
            # Who made it may have another clock: from when on it counts, `nbf` says.
            options={"require": required, "verify_iat": False},
        )
    except jwt.PyJWTError as error:
        raise Unauthorized(_reason(error)) from None
    # What a number without bounds, or nesting without end, does to the library.
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        raise Unauthorized("the token is malformed") from None


_REASONS: Collection[tuple[type[Exception], str]] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not yet valid"),
    (jwt.InvalidAudienceError, "the token was made for another service"),
    (jwt.MissingRequiredClaimError, "the token lacks a claim"),
    (jwt.InvalidSignatureError, "the signature of the token is wrong"),
)


def _reason(error: Exception) -> str:
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "the token is not good")


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError from error
