"""What the hash of a password looks like, and what it costs to try one: bcrypt and argon2."""

import re
from typing import Final

COSTLIEST_BCRYPT: Final = 16
"""Highest cost factor that is taken; each step doubles the time, and this one is seconds."""

MOST_MEMORY: Final = 1 << 20
MOST_PASSES: Final = 64
MOST_LANES: Final = 64
"""Of an argon2 hash that is taken; memory in KiB. One login must not occupy the whole machine."""

_BCRYPT: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_ARGON2: Final = re.compile(
    r"\$(argon2(?:id|i|d))\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
_HASH: Final = re.compile(r"\$(?:2[abxy]|argon2\w*)\$")


def is_hash(text: str) -> bool:
    """Says whether a text is meant as a hash, and not as a password."""
    return _HASH.match(text) is not None


def cost_of(hashed: str) -> str:
    """Returns what it takes to try a password; of two hashes with the same cost nobody can tell which was tried.

    Raises:
        ValueError: this is no hash of bcrypt or argon2, or it costs too much; the reason does not repeat it.
    """
    if bcrypt := _BCRYPT.fullmatch(hashed):
        if not 4 <= int(bcrypt[1]) <= COSTLIEST_BCRYPT:  # noqa: PLR2004 - bcrypt knows no lower cost
            message = f"the cost of a bcrypt hash is at most {COSTLIEST_BCRYPT}"
            raise ValueError(message)
        return f"bcrypt {bcrypt[1]}"
    if argon2 := _ARGON2.fullmatch(hashed):
        kind, *numbers = argon2.groups()
        memory, passes, lanes = map(int, numbers)
        # RFC 9106 section 3.1 has the lower bounds.
        if not (1 <= lanes <= MOST_LANES and 1 <= passes <= MOST_PASSES and 8 * lanes <= memory <= MOST_MEMORY):
            message = f"an argon2 hash costs at most m={MOST_MEMORY},t={MOST_PASSES},p={MOST_LANES}"
            raise ValueError(message)
        return f"{kind} {' '.join(numbers)}"
    raise ValueError("not a hash of bcrypt ($2y$, $2b$, $2a$) or argon2; htpasswd -B makes one")
