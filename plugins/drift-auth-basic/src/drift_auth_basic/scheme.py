"""Reads the Authorization header of the scheme Basic: RFC 7617."""

import binascii
from base64 import b64decode
from typing import Final

from drift_auth_basic.names import MOST_NAME, MOST_PASSWORD, check_name, check_password
from drift_core.api import Unauthorized

CHALLENGE: Final = 'Basic realm="drift", charset="UTF-8"'
"""RFC 7617 section 2.1: names and passwords are UTF-8."""

LONGEST: Final = 16 + (4 * MOST_NAME + 1 + MOST_PASSWORD) * 4 // 3
"""Most characters of a header whose name and password are not too long."""

REFUSED: Final = "the user name or the password is wrong"


NOBODY: Final = "Og=="
"""An empty name with an empty password: what skopeo and podman send where they have neither."""


def is_basic(authorization: str) -> bool:
    """Says whether a header has this scheme, in any case (RFC 9110 section 11.1), and names somebody."""
    return authorization[:6].lower() == "basic " and authorization[6:] != NOBODY


def read(authorization: str) -> tuple[str, str]:
    """Returns name and password. Raises `Unauthorized` where nobody can have these, without repeating them."""
    if len(authorization) > LONGEST:
        raise Unauthorized("the credentials are too long")
    try:
        text = b64decode(authorization[6:].strip(" "), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Unauthorized("the credentials are not Base64 of UTF-8") from None
    name, colon, password = text.partition(":")
    try:
        check_name(name)
        check_password(password)
    except ValueError as error:
        # A name without a colon may well be a password: it is not shown.
        raise Unauthorized(REFUSED, username=name if colon else None) from error
    return name, password
