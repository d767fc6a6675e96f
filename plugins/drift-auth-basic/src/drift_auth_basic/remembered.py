"""What was found out about credentials, so that the same ones need no hash of a password again."""

import secrets
import time
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from drift_auth_basic.accounts import Account
from drift_core.api import Identity

MOST: Final = 10_000
"""How many credentials are remembered; beyond that the oldest are forgotten."""


class Proof(Struct, frozen=True, gc=False):
    """Whether credentials were right while the account was like this; ``until`` is by the monotonic clock.

    ``account`` None is a user that nobody knew.
    """

    identity: Identity
    account: Account | None
    right: bool
    until: float


class Remembered:
    """Proofs by a keyed hash of what the client sent, of which nobody learns a password.

    Wrong credentials have a place of their own: however many are tried, right ones are not forgotten for them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._secret = secrets.token_bytes(32)
        self._right: dict[bytes, Proof] = {}
        self._wrong: dict[bytes, Proof] = {}

    def key(self, authorization: str) -> bytes:
        """Returns what stands for a header; with another process it is another."""
        return blake2b(authorization.encode("utf-8", "surrogatepass"), digest_size=16, key=self._secret).digest()

    def get(self, key: bytes) -> Proof | None:
        """Returns what was found out at most the configured time ago."""
        proof = self._right.get(key) or self._wrong.get(key)
        return proof if proof is not None and proof.until > time.monotonic() else None

    def keep(self, key: bytes, identity: Identity, account: Account | None, *, right: bool) -> None:
        """Remembers what was found out now."""
        now = time.monotonic()
        proofs, others = (self._right, self._wrong) if right else (self._wrong, self._right)
        others.pop(key, None)
        proofs.pop(key, None)
        proofs[key] = Proof(identity, account, right, now + self._seconds)
        # All are kept equally long: the oldest, which come first, are those that are over.
        while len(proofs) > MOST or next(iter(proofs.values())).until <= now:
            del proofs[next(iter(proofs))]
            if not proofs:
                break
