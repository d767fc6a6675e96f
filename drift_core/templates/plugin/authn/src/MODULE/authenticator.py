"""Logs in by name and password (RFC 7617); of the passwords only slow hashes are kept."""

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drift_core.api import Authenticator, Credentials, Identity, Scope, Services, StartError, Struct, Unauthorized

from ${module}.config import ${prefix}Config

ROUNDS = 600_000
"""What OWASP asks of PBKDF2-HMAC-SHA256: about 0.2 s of one core for each login."""


class Password(Struct, frozen=True):
    """What is kept of a password."""

    rounds: int
    salt: bytes
    hash: bytes

    def proves(self, password: str) -> bool:
        """Tells whether this is the password; blocks, and releases the GIL."""
        made = hashlib.pbkdf2_hmac("sha256", password.encode(), self.salt, self.rounds)
        return hmac.compare_digest(made, self.hash)


def entry(name: str, password: str, rounds: int = ROUNDS) -> str:
    """Returns a user as the configuration has them."""
    salt = secrets.token_bytes(16)
    made = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    return f"{name}:{rounds}:{salt.hex()}:{made.hex()}"


class ${prefix}Authenticator:
    """Knows the users that the configuration names."""

    def __init__(self, users: dict[str, Password]) -> None:
        self._users = users
        # A name that is unknown must cost as much as one that is known.
        rounds = max((password.rounds for password in users.values()), default=ROUNDS)
        self._nobody = Password(rounds, secrets.token_bytes(16), b"")

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Returns None for what is not a password: the next in the chain is asked. A bad one ends the request."""
        scheme, _, value = (credentials.authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthorized("neither a name nor a password") from None
        known = self._users.get(name, self._nobody)
        if not await asyncio.to_thread(known.proves, password):
            raise Unauthorized("wrong name or password")
        return Identity(name, "${name}")

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """Asks the client for a password, whatever it wants to do."""
        return 'Basic realm="drift", charset="UTF-8"'


def parsed(entries: Sequence[str]) -> dict[str, Password]:
    """Returns the users by name. Raises `StartError`, which tells the place of an entry and not its content."""
    users: dict[str, Password] = {}
    for place, line in enumerate(entries):
        try:
            name, rounds, salt, made = line.split(":")
            users[name] = Password(int(rounds), bytes.fromhex(salt), bytes.fromhex(made))
        except ValueError:
            message = f"auth.${name}.users[{place}] is not name:rounds:salt:hash"
            raise StartError(message) from None
    return users


@asynccontextmanager
async def open_authenticator(config: ${prefix}Config, services: Services) -> AsyncIterator[Authenticator]:
    """Opens the driver for as long as the server runs. Raises `StartError`."""
    users = parsed(config.users)
    services.log.info("users were read", count=len(users))
    yield ${prefix}Authenticator(users)
