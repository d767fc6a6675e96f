"""Judges the tokens of one OpenID provider by the keys that it publishes, which are fetched when needed and kept."""

import asyncio
import time
from base64 import urlsafe_b64decode
from collections.abc import Collection
from typing import Any

import jwt
import msgspec
from msgspec import Struct
from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from drift_auth_oidc.config import require_https
from drift_auth_oidc.fetching import Fetcher
from drift_core.api import Unauthorized, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key; those by a shared one, and none, are nobody's proof (RFC 8725 section 3.1)."""

KEY_TYPES = frozenset({"RSA", "EC", "OKP"})

LONGEST = 16 << 10
"""Most characters of a token that is looked at; headers of requests are hardly longer."""

MOST_KEYS = 100

FRESH_SECONDS = 3600.0
"""After this time what was published is asked for again, in the background."""

RETRY_SECONDS = 2.0
"""How long a provider that did not answer is left alone."""

UNKNOWN_BURST, UNKNOWN_SECONDS = 5, 10.0
"""How often a provider is asked for a key that it may not have: so many times, and again one time in so long."""


class Metadata(Struct, frozen=True):
    """What Drift needs of a discovery document (OpenID Connect Discovery 1.0 section 3)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Published(Struct, frozen=True):
    """What a provider publishes: its metadata, and its keys by their ids."""

    metadata: Metadata
    keys: dict[str, jwt.PyJWK]


class Header(Struct, frozen=True):
    """What counts of a token's header; where it says that its key lies is not believed (RFC 8725 section 3.10)."""

    alg: str
    kid: str | None = None


class Issued(Struct, frozen=True):
    """Who says to have issued a token, as far as that can be told before it is verified."""

    iss: str


class Issuer:
    """One provider.

    ``url`` is where it publishes, ``names`` are what its tokens may say as ``iss``, ``announced`` what its discovery
    document may. ``skew`` is how far its clock may be from ours, in seconds.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        log: FilteringBoundLogger,
        fetches: Counter,
        *,
        names: Collection[str] | None = None,
        announced: Collection[str] | None = None,
        skew: float = 60,
    ) -> None:
        self.url = url
        self.names = frozenset(names or {url})
        self._announced = frozenset(announced or {url})
        self._fetcher = fetcher
        self._log = log
        self._fetches = fetches
        self._skew = skew
        self._lock = asyncio.Lock()
        self._known: Published | None = None
        self._fetched = 0
        self._tried = self._asked = float("-inf")
        self._failure: Unavailable | None = None
        self._tries = float(UNKNOWN_BURST)
        self._refreshing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends what runs in the background."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def metadata(self) -> Metadata:
        """Returns the discovery document. Raises `Unavailable`."""
        return (await self._published()).metadata

    async def verify(self, token: str, audience: str, *, party: bool = True) -> dict[str, Any]:
        """Returns the claims of a token that this provider has made for ``audience``, and that is good now.

        With ``party`` an authorized party must be the audience, too (OpenID Connect Core 1.0 section 3.1.3.7).

        Raises:
            Unauthorized: it is not; the message says why, and never has the token.
            Unavailable: its key is not known, and the provider does not answer.
        """
        if len(token) > LONGEST:
            raise Unauthorized("the token is too long")
        key = await self._key(_header(token))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=audience,
                leeway=self._skew,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(_reason(error)) from None
        # Deep nesting, and numbers of thousands of digits.
        except (ValueError, RecursionError):
            raise Unauthorized("the token cannot be read") from None
        if claims["iss"] not in self.names:
            raise Unauthorized("the token is of another issuer")
        audiences: Any = claims["aud"]
        several = isinstance(audiences, list) and audiences != [audience]
        if party and claims.get("azp", None if several else audience) != audience:
            raise Unauthorized("the token was made for another party")
        if not claims["sub"] or not str(claims["sub"]).isprintable():
            raise Unauthorized("the token names nobody")
        return claims

    async def _key(self, header: Header) -> jwt.PyJWK:
        if header.alg not in ALGORITHMS:
            raise Unauthorized("the token is not signed by a private key")
        known, fetched = await self._published(), self._fetched
        if (key := _find(known, header)) is None:
            known = await self._asked_again(fetched)
            key = _find(known, header)
        if key is None:
            raise Unauthorized("the token is signed by an unknown key")
        return key

    async def _published(self) -> Published:
        if (known := self._known) is None:
            async with self._lock:
                return self._known or await self._fetch()
        if time.monotonic() - self._asked > FRESH_SECONDS and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
        return known

    async def _refresh(self) -> None:
        try:
            async with self._lock:
                await self._fetch()
        except Unavailable as error:
            # What is known stays good, and is asked for again after a while.
            self._asked = time.monotonic() - FRESH_SECONDS + 60
            self._log.warning("the provider's keys cannot be refreshed", issuer=self.url, error=error.message)
        finally:
            self._refreshing = None

    async def _asked_again(self, fetched: int) -> Published:
        """Returns what the provider publishes now, unless somebody asked since ``fetched``, or too many did."""
        async with self._lock:
            if self._known is not None and self._fetched != fetched:
                return self._known
            self._leave_alone()
            waited = time.monotonic() - self._tried
            tries = min(UNKNOWN_BURST, self._tries + waited / UNKNOWN_SECONDS)
            if tries < 1:
                raise Unauthorized("the token is signed by an unknown key")
            self._tries = tries - 1
            return await self._fetch()

    def _leave_alone(self) -> None:
        """Raises what the provider failed with a moment ago."""
        if self._failure is not None and time.monotonic() - self._tried < RETRY_SECONDS:
            raise Unavailable(self._failure.message, **self._failure.detail)

    async def _fetch(self) -> Published:
        self._leave_alone()
        try:
            found = await self._get()
        except Unavailable as error:
            self._failure = error
            self._tried = time.monotonic()
            self._fetches.labels(self.url, "failed").inc()
            self._log.warning("the provider cannot be asked", issuer=self.url, error=error.message, **error.detail)
            raise
        self._failure = None
        self._tried = self._asked = time.monotonic()
        self._fetched += 1
        self._known = found
        self._fetches.labels(self.url, "answered").inc()
        return found

    async def _get(self) -> Published:
        document = await self._fetcher.document(f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        try:
            metadata = msgspec.convert(document, Metadata)
            for key in ("jwks_uri", "authorization_endpoint", "token_endpoint", "userinfo_endpoint"):
                if (url := getattr(metadata, key)) is not None:
                    require_https(key, url)
        except ValueError as error:
            raise Unavailable(f"the discovery document of {self.url} cannot be used", reason=str(error)) from None
        if metadata.issuer not in self._announced:
            raise Unavailable(f"{self.url} says that its issuer is {metadata.issuer[:200]}")
        document = await self._fetcher.document(metadata.jwks_uri)
        keys: Any = document.get("keys") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(keys, list):
            raise Unavailable(f"{self.url} publishes no keys")
        return Published(metadata, _keys(keys))  # pyright: ignore[reportUnknownArgumentType]


def issuer_of(token: str) -> str | None:
    """Returns who says to have issued a token, or None for what is no token; nothing is verified."""
    parts = token.split(".") if len(token) <= LONGEST else []
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        return None
    try:
        return msgspec.json.decode(_decoded(parts[1]), type=Issued).iss
    except (ValueError, RecursionError):
        return None


def _header(token: str) -> Header:
    try:
        return msgspec.json.decode(_decoded(token.split(".", maxsplit=1)[0]), type=Header)
    except (ValueError, RecursionError):
        raise Unauthorized("the token cannot be read") from None


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4))


def _find(published: Published, header: Header) -> jwt.PyJWK | None:
    if header.kid is not None:
        return published.keys.get(header.kid)
    return next(iter(published.keys.values())) if len(published.keys) == 1 else None


def _keys(documents: list[Any]) -> dict[str, jwt.PyJWK]:
    """Returns what can verify; of the others (JSON Web Keys of other kinds) nobody has to know."""
    keys: dict[str, jwt.PyJWK] = {}
    for place, document in enumerate(documents[:MOST_KEYS]):
        if not isinstance(document, dict):
            continue
        jwk: dict[str, Any] = {str(name): value for name, value in document.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if jwk.get("kty") not in KEY_TYPES or jwk.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(jwk)
        except (jwt.PyJWTError, ValueError):
            continue
        if key.algorithm_name in ALGORITHMS:
            keys[str(jwk.get("kid", f"#{place}"))] = key
    return keys


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "the token has expired"
        case jwt.ImmatureSignatureError():
            return "the token is not yet valid"
        case jwt.InvalidAudienceError():
            return "the token was made for another audience"
        case jwt.MissingRequiredClaimError():
            return "the token lacks a claim"
        case jwt.InvalidSignatureError():
            return "the token's signature is wrong"
        case _:
            return "the token cannot be used"
