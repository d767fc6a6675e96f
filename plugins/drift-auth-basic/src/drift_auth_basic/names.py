"""What a user name and a password may look like: RFC 7617 section 2, with limits."""

import re
from typing import Final

MOST_NAME: Final = 128
"""Most characters of a user name."""

MOST_PASSWORD: Final = 1024
"""Most bytes of a password in UTF-8."""

ROBOT: Final = "robot$"
"""How the names of robot accounts begin, which are those of drift-auth-token."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def check_name(name: str) -> None:
    """Raises ValueError with the reason where nobody can have this name; the reason does not repeat it."""
    if not 1 <= len(name) <= MOST_NAME:
        message = f"a user name has 1 to {MOST_NAME} characters"
        raise ValueError(message)
    if ":" in name or _CONTROL.search(name) or name.strip() != name:
        raise ValueError("a user name has no colon, no control characters, and no space at either end")
    if name.startswith(ROBOT):
        message = f"a name that begins with {ROBOT} is that of a robot account, which has a token"
        raise ValueError(message)


def split_entry(entry: str) -> tuple[str, str]:
    """Returns the name before the first colon, and what is behind it. Raises ValueError like `check_name`."""
    name, colon, rest = entry.partition(":")
    if not colon:
        raise ValueError("there is no colon behind the name")
    check_name(name)
    return name, rest


def check_password(password: str) -> None:
    """Raises ValueError with the reason where nobody can have this password; the reason does not repeat it."""
    if not 1 <= len(password.encode()) <= MOST_PASSWORD:
        message = f"a password has 1 to {MOST_PASSWORD} bytes"
        raise ValueError(message)
    if _CONTROL.search(password):
        raise ValueError("a password has no control characters")
