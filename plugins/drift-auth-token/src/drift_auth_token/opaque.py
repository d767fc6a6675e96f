"""Tokens that say nothing: ``drift_<kind>_<id>_<secret><checksum>``, shown once and kept as a hash."""

import hashlib
import re
import secrets
import zlib
from typing import Literal

from msgspec import Struct

Kind = Literal["pat", "robot", "refresh"]

_FORM = re.compile(r"(drift_(pat|robot|refresh)_([0-9a-f]{16})_([0-9a-f]{64}))([0-9a-f]{8})")

_ID = re.compile(r"[0-9a-f]{16}")


class Opaque(Struct, frozen=True):
    """A token in its parts; ``secret`` is the hash, the only form in which it is kept.

    One round of SHA-256 is enough: a guess among 2**256 is not made likelier by being fast, as it is with a password.
    """

    kind: str
    id: str
    secret: str


def make(kind: Kind, grant: str) -> tuple[str, str]:
    """Returns a new token for a grant, and the hash of its secret."""
    secret = secrets.token_hex(32)
    text = f"drift_{kind}_{grant}_{secret}"
    return f"{text}{zlib.crc32(text.encode()):08x}", _hashed(secret)


def parse(text: str) -> Opaque | None:
    """Returns a token in its parts, None for what has not this form; the checksum finds typing errors and fakes."""
    found = _FORM.fullmatch(text)
    if found is None or f"{zlib.crc32(found[1].encode()):08x}" != found[5]:
        return None
    return Opaque(found[2], found[3], _hashed(found[4]))


def is_id(text: str) -> bool:
    """Returns whether a text may be an identifier of `new_id`."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """Returns an identifier that nothing has had before."""
    return secrets.token_hex(8)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
