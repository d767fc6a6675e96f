"""Authenticators that each break one rule of `AuthenticatorSuite`."""

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from drift_core.api import Credentials, Identity, Scope, Unauthorized
from drift_core.conformance.reference.authenticator import MemoryAuthenticator


class ForgetsTheName(MemoryAuthenticator):
    """Gives everybody the same name."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        identity = await super().authenticate(credentials)
        return identity and Identity("user", identity.source)


class PassesOnABadPassword(MemoryAuthenticator):
    """Leaves a wrong password to the next authenticator."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        try:
            return await super().authenticate(credentials)
        except Unauthorized as refusal:
            if refusal.message == "wrong name or password":
                return None
            raise


class RefusesOtherSchemes(MemoryAuthenticator):
    """Takes every Authorization to be its own."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        identity = await super().authenticate(credentials)
        if identity is None and credentials.authorization is not None:
            raise Unauthorized
        return identity


class RefusesAnonymous(MemoryAuthenticator):
    """Refuses where nothing was said, so that no policy can allow it."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        if credentials.authorization is None:
            raise Unauthorized
        return await super().authenticate(credentials)


class KnowsOneSpelling(MemoryAuthenticator):
    """Compares the scheme exactly."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        if (credentials.authorization or "").startswith(("Basic ", "Bearer ")):
            return await super().authenticate(credentials)
        return None


class ForgetsQuotes(MemoryAuthenticator):
    """Writes a parameter that has spaces in it without quotes."""

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        return (super().challenge(scopes) or "").replace('"', "")


class StumblesOverBase64(MemoryAuthenticator):
    """Lets out what base64 raises, for a few characters."""

    async def login(self, value: str) -> Identity:
        if value.isascii() and len(value) < 8:
            base64.b64decode(value, validate=True)
        return await super().login(value)


class StumblesOverBytes(MemoryAuthenticator):
    """Lets out what decoding raises, for a few bytes."""

    async def login(self, value: str) -> Identity:
        if len(value) < 64:
            with suppress(binascii.Error):
                base64.b64decode(value, validate=True).decode()
        return await super().login(value)


class StumblesOverDepth(MemoryAuthenticator):
    """Raises what deep nesting raises."""

    async def redeem(self, value: str) -> Identity:
        if len(value) > 1000 and value.count(".") == 2:
            raise RecursionError
        return await super().redeem(value)


class TellsTheSecret(MemoryAuthenticator):
    """Says in its refusal what it refused."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        try:
            return await super().authenticate(credentials)
        except Unauthorized as refusal:
            raise Unauthorized(refusal.message, sent=credentials.authorization) from None


class SharesItsState(MemoryAuthenticator):
    """Keeps on itself what it works on, while others run."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        self.current = credentials
        await asyncio.sleep(0)
        return await super().authenticate(self.current)


class EndsWithTheRequest(MemoryAuthenticator):
    """Knows nobody any more after a request was cancelled."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        try:
            return await super().authenticate(credentials)
        except asyncio.CancelledError:
            self.passwords.clear()
            raise


class HurriesForUnknownUsers(MemoryAuthenticator):
    """Hashes no password where there is nothing to compare it with."""

    def proves(self, name: str, password: str) -> bool:
        return name in self.passwords and super().proves(name, password)


class TakesExpiredTokens(MemoryAuthenticator):
    """Does not look at ``exp``."""

    def applies(self, claims: Mapping[str, Any]) -> bool:
        return super().applies({**claims, "exp": inf})


class TakesEarlyTokens(MemoryAuthenticator):
    """Does not look at ``nbf``."""

    def applies(self, claims: Mapping[str, Any]) -> bool:
        return super().applies({**claims, "nbf": 0})


class TakesTokensOfOthers(MemoryAuthenticator):
    """Does not look at ``aud``."""

    def applies(self, claims: Mapping[str, Any]) -> bool:
        return super().applies({**claims, "aud": self.audience})


class TakesUnsignedTokens(MemoryAuthenticator):
    """Believes a token that it needs no signature."""

    def signs(self, header: Mapping[str, Any], message: bytes, signature: bytes) -> bool:
        return header["alg"] == "none" or super().signs(header, message, signature)


class TrustsUnknownKeys(MemoryAuthenticator):
    """Looks at no signature whose key it does not know."""

    def signs(self, header: Mapping[str, Any], message: bytes, signature: bytes) -> bool:
        unknown = header["alg"] != "none" and header["kid"] not in self.keys
        return unknown or super().signs(header, message, signature)


class RemembersLogins(MemoryAuthenticator):
    """Keeps for ever whom it has once let in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.remembered: dict[Credentials, Identity | None] = {}

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        if credentials not in self.remembered:
            self.remembered[credentials] = await super().authenticate(credentials)
        return self.remembered[credentials]


MUTANTS: dict[str, type[MemoryAuthenticator]] = {
    "authenticator.good-credentials": ForgetsTheName,
    "authenticator.bad-credentials": PassesOnABadPassword,
    "authenticator.foreign-credentials": RefusesOtherSchemes,
    "authenticator.anonymous": RefusesAnonymous,
    "authenticator.scheme-in-any-case": KnowsOneSpelling,
    "authenticator.challenge": ForgetsQuotes,
    "authenticator.malformed-credentials": StumblesOverBase64,
    "authenticator.credentials-not-in-utf8": StumblesOverBytes,
    "authenticator.oversized-credentials": StumblesOverDepth,
    "authenticator.refusal-keeps-the-secret": TellsTheSecret,
    "authenticator.concurrent-logins": SharesItsState,
    "authenticator.cancelled-login": EndsWithTheRequest,
    "authenticator.unknown-users-cost-the-same": HurriesForUnknownUsers,
    "authenticator.expired": TakesExpiredTokens,
    "authenticator.not-yet-valid": TakesEarlyTokens,
    "authenticator.wrong-audience": TakesTokensOfOthers,
    "authenticator.unsigned": TakesUnsignedTokens,
    "authenticator.unknown-key": TrustsUnknownKeys,
    "authenticator.revoked": RemembersLogins,
}
