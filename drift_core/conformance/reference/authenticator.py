"""An `Authenticator` in memory: passwords (RFC 7617), and tokens signed by a shared key (RFC 7519, HS256)."""

import asyncio
import hashlib
import hmac
import json
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drift_core.api import Credentials, Identity, Scope, Unauthorized

ROUNDS = 1000
"""Few, so that tests are fast; a real one takes 600,000, in a thread."""


def hashed(password: str, salt: str) -> bytes:
    """Returns what is kept of a password."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), ROUNDS)


def signed(key: bytes, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Returns a token in the compact form of RFC 7515; without a key it has an empty signature."""
    message = b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    signature = hmac.digest(key, message, "sha256") if key else b""
    return f"{message.decode()}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def decoded(part: str) -> bytes:
    """Returns the bytes of one part of a token. Raises `ValueError`."""
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


class MemoryAuthenticator:
    """Knows ``users`` by password, and who has a token for ``audience`` signed by one of ``keys``."""

    def __init__(
        self,
        users: Mapping[str, str],
        keys: Mapping[str, bytes],
        audience: str = "drift",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.passwords = {name: hashed(password, name) for name, password in users.items()}
        self.keys = keys
        self.audience = audience
        self.clock = clock
        self.revoked: set[str] = set()

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        scheme, _, value = (credentials.authorization or "").partition(" ")
        match scheme.lower():
            case "basic":
                return await self.login(value)
            case "bearer":
                return await self.redeem(value)
        return None

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """See `Authenticator`."""
        asked = " ".join(str(scope) for scope in scopes)
        return f'Basic realm="drift", charset="UTF-8", Bearer realm="drift", scope="{asked}"'

    async def login(self, value: str) -> Identity:
        """Returns who has this name and password. Raises `Unauthorized`."""
        try:
            name, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthorized("neither a name nor a password") from None
        await asyncio.sleep(0)
        if not self.proves(name, password):
            raise Unauthorized("wrong name or password")
        if name in self.revoked:
            raise Unauthorized("the login was revoked")
        return Identity(name, "memory")

    def proves(self, name: str, password: str) -> bool:
        """Tells whether this is the password of ``name``; hashes as much for a name that is unknown."""
        return hmac.compare_digest(hashed(password, name), self.passwords.get(name, b""))

    async def redeem(self, value: str) -> Identity:
        """Returns whom a token names. Raises `Unauthorized`."""
        message, _, signature = value.rpartition(".")
        try:
            header, claims = (json.loads(decoded(part)) for part in message.split("."))
            trusted = self.signs(header, message.encode(), decoded(signature)) and self.applies(claims)
        # Deep nesting ends json's recursion; the others are what a token of another shape does to the code above.
        except (ValueError, RecursionError, TypeError, AttributeError, KeyError):
            raise Unauthorized("no token") from None
        if not trusted:
            raise Unauthorized("the token is not good here or now")
        return Identity(str(claims["sub"]), "memory")

    def signs(self, header: Mapping[str, Any], message: bytes, signature: bytes) -> bool:
        """Tells whether a key that is known made the signature, by the one algorithm that counts."""
        key = self.keys.get(header["kid"])
        made = hmac.digest(key, message, "sha256") if key and header["alg"] == "HS256" else b""
        return bool(made) and hmac.compare_digest(made, signature)

    def applies(self, claims: Mapping[str, Any]) -> bool:
        """Tells whether the token is for this service, and for now."""
        return bool(claims["nbf"] <= self.clock() < claims["exp"] and claims["aud"] == self.audience)
