"""Logs in by name and password (RFC 7617); of the passwords only slow hashes are kept."""

import asyncio
import hashlib
import hmac
import secrets
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drift_core.api import Authenticator, Credentials, Identity, Scope, Services, StartError, Struct, Unauthorized

from ${module}.config import ${prefix}Config

ROUNDS = 600_000
"""What OWASP asks of PBKDF2-HMAC-SHA256: about 0.2 s of one core."""

PROVEN_SECONDS, PROVEN_MOST = 60.0, 1000
"""How long, and of how many logins, it is remembered that they were good: clients send theirs with every request."""

HASHES_AT_ONCE = 4
"""Threads that guesses can keep busy: others need some, too."""


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
        self._proven: dict[bytes, float] = {}
        self._key = secrets.token_bytes(32)
        self._hashes = asyncio.Semaphore(HASHES_AT_ONCE)

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Returns None for what is not a password: the next in the chain is asked. A bad one ends the request."""
        scheme, _, value = (credentials.authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthorized("neither a name nor a password") from None
        mark = hmac.digest(self._key, value.encode(), "sha256")
        if self._proven.get(mark, 0.0) < time.monotonic():
            known = self._users.get(name, self._nobody)
            async with self._hashes:
                if not await asyncio.to_thread(known.proves, password):
                    raise Unauthorized("wrong name or password")
            self._remember(mark)
        return Identity(name, "${name}")

    def _remember(self, mark: bytes) -> None:
        self._proven[mark] = time.monotonic() + PROVEN_SECONDS
        if len(self._proven) > PROVEN_MOST:
            del self._proven[next(iter(self._proven))]

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
    if len({password.rounds for password in users.values()}) > 1:
        # Otherwise the time that a refusal takes tells who is known.
        raise StartError("auth.${name}.users must all have the same number of rounds")
    return users


@asynccontextmanager
async def open_authenticator(config: ${prefix}Config, services: Services) -> AsyncIterator[Authenticator]:
    """Opens the driver for as long as the server runs. Raises `StartError`."""
    users = parsed(config.users)
    services.log.info("users were read", count=len(users))
    yield ${prefix}Authenticator(users)
