"""Makes the hash of a password, and tries a password against one; both block for some 30 ms without the GIL."""

from typing import Final

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError, VerifyMismatchError

from drift_core.api import Unavailable

MOST_BCRYPT: Final = 72
"""Bytes of a password that bcrypt takes; nobody has a longer one."""

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)
"""Argon2id as OWASP's "Password Storage Cheat Sheet" has it: 19 MiB for each thread that tries one, no more."""

DECOY: Final = f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p=1${'A' * 22}${'A' * 43}"
"""A hash of the same cost as those that `hash_password` makes, of no password that anybody knows."""


def hash_password(password: str) -> str:
    """Returns a hash with a salt of its own."""
    return _HASHER.hash(password)


def matches(password: str, hashed: str) -> bool:
    """Returns whether this is the password of a hash that `cost_of` takes.

    Raises `Unavailable` where it cannot be tried, for instance for want of memory.
    """
    if hashed.startswith("$2"):
        given = password.encode()
        return len(given) <= MOST_BCRYPT and bcrypt.checkpw(given, hashed.encode())
    try:
        return _HASHER.verify(hashed, password)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise Unavailable("a password cannot be tried at present", reason=str(error)) from error
