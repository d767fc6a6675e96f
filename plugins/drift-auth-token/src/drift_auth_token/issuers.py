"""Tokens of other issuers: their keys, fetched when they are needed, and whom their claims name."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx
import msgspec
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from drift_auth_token.compact import Presented, verify
from drift_auth_token.config import IssuerConfig, parse_scope
from drift_auth_token.identity import TokenIdentity
from drift_core.api import StartError, Unauthorized, Unavailable

T = TypeVar("T")

FETCH_SECONDS = 5.0
MAX_DOCUMENT = 512 << 10
"""Largest answer of an issuer, in bytes."""

MAX_KEYS = 64
FRESH_SECONDS = 3600.0
"""After this time the keys are fetched again, while those that are known go on to count."""

KEPT_SECONDS = 86400.0
"""How long keys count while their issuer cannot be reached: one that it has withdrawn must not be good for ever."""

REFETCH_SECONDS, BURST = 10.0, 5
"""An unknown key is asked for once in this time on average; so many times at once."""

MIN_RSA_BITS = 2048
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


class _Discovery(Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _Jwk(Struct, frozen=True):
    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None


class _KeySet(Struct, frozen=True):
    keys: list[dict[str, Any]]


class _FetchError(Exception):
    """What an issuer answered is of no use."""


class ExternalIssuer:
    """One issuer. Closed while it cannot be reached, except for keys that were fetched within `KEPT_SECONDS`."""

    def __init__(self, config: IssuerConfig, client: httpx.AsyncClient, log: FilteringBoundLogger) -> None:
        self.config = config
        self._client = client
        self._log = log
        self._scopes = None if config.scopes is None else frozenset(map(parse_scope, config.scopes))
        self._keys: Mapping[tuple[str, str], Any] = {}
        self._fetched = float("-inf")
        self._reached = True
        self._fetching: asyncio.Task[None] | None = None
        self._allowance = float(BURST)
        self._asked = time.monotonic()

    async def identify(self, presented: Presented) -> TokenIdentity:
        """Returns whom a token names. Raises `Unauthorized`, or `Unavailable` where its key cannot be fetched."""
        header, config = presented.header, self.config
        if header.alg not in config.algorithms:
            raise Unauthorized("the token is signed by an algorithm that is not allowed")
        if header.kid is None:
            raise Unauthorized("the token does not say by which key it is signed")
        key = await self._key(header.kid, header.alg)
        claims = verify(presented, key, header.alg, config.audience, config.clock_skew_seconds)
        name = claims.get(config.username_claim)
        if not isinstance(name, str) or not name or len(name) > 255 or not name.isprintable():  # noqa: PLR2004
            raise Unauthorized(f"the claim {config.username_claim} of the token is no name")
        name = config.prefix + name
        if name.startswith("robot$"):
            raise Unauthorized("the token claims the name of a robot")
        groups = self._groups(claims)
        ends = float(claims["exp"])
        return TokenIdentity(
            name, config.issuer, groups, scopes=self._scopes, delegated=True, use="issuer", expires=ends
        )

    async def close(self) -> None:
        """Gives up what is being fetched."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _groups(self, claims: Mapping[str, Any]) -> frozenset[str]:
        claim = self.config.groups_claim
        found: Any = () if claim is None else claims.get(claim)
        if isinstance(found, str):
            return frozenset((found,))
        listed = cast("list[object]", found) if isinstance(found, list) else []
        return frozenset(name for name in listed if isinstance(name, str))

    async def _key(self, kid: str, algorithm: str) -> Any:
        key, age = self._keys.get((kid, algorithm)), time.monotonic() - self._fetched
        if key is not None and age < KEPT_SECONDS:
            if age > FRESH_SECONDS:
                self._fetch_soon()
            return key
        if (fetching := self._fetch_soon()) is not None:
            # Who waits may leave; the others, and the next, get what is fetched.
            await asyncio.shield(fetching)
        key = self._keys.get((kid, algorithm))
        if not self._reached:
            raise Unavailable(f"the keys of the issuer {self.config.issuer} cannot be fetched")
        if key is None:
            raise Unauthorized("the token is signed by an unknown key")
        return key

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """Returns the one fetch that runs; None where an unknown key was asked for too often."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = time.monotonic()
        self._allowance = min(self._allowance + (now - self._asked) / REFETCH_SECONDS, float(BURST))
        self._asked = now
        if self._allowance < 1:
            return None
        self._allowance -= 1
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                url = self.config.jwks_url or await self._discovered()
                self._keys = dict(_usable(await self._document(url, _KeySet), self.config.algorithms))
        except (_FetchError, httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            self._reached = False
            self._log.warning(
                "the keys of an issuer cannot be fetched",
                issuer=self.config.issuer,
                error=f"{type(error).__name__}: {error}",
            )
            return
        self._reached = True
        self._fetched = time.monotonic()

    async def _discovered(self) -> str:
        """Returns where the issuer has its keys (OpenID Connect Discovery section 4)."""
        issuer = self.config.issuer
        found = await self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration", _Discovery)
        if found.issuer != issuer:
            raise _FetchError("the discovery document is that of another issuer")
        # It must not make this server ask others, inside its network, in the issuer's name.
        if _origin(found.jwks_uri) != _origin(issuer):
            raise _FetchError("jwks_uri is of another origin: set jwks_url if that is meant")
        return found.jwks_uri

    async def _document(self, url: str, kind: type[T]) -> T:
        content = b""
        # No redirects, and nothing packed: what is counted is what is held.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise _FetchError(f"{url} answered {answer.status_code}")
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > MAX_DOCUMENT:
                    raise _FetchError(f"{url} answered more than {MAX_DOCUMENT} bytes")
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _FetchError(f"{url} did not answer what it should") from error


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _FetchError("jwks_uri is no URL") from error
    return parts.scheme, parts.hostname, port


def _usable(found: _KeySet, allowed: Sequence[str]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yields the keys by their identifier and each algorithm that they are for and that is allowed."""
    for document in found.keys[:MAX_KEYS]:
        try:
            jwk = msgspec.convert(document, _Jwk)
            algorithms = [name for name in allowed if jwk.use in (None, "sig") and _fits(jwk, name)]
            for algorithm in algorithms if jwk.kid is not None else ():
                key: Any = get_default_algorithms()[algorithm].from_jwk(document)
                if hasattr(key, "private_numbers") or getattr(key, "key_size", MIN_RSA_BITS) < _least(jwk):
                    continue
                yield (str(jwk.kid), algorithm), key
        # One key that is damaged, or of a kind that nobody knows yet, does not spoil the others.
        except (PyJWTError, msgspec.ValidationError, ValueError, TypeError):
            continue


def _fits(jwk: _Jwk, algorithm: str) -> bool:
    """Says whether a key is for an algorithm; a symmetric one is for none (RFC 8725 section 3.1)."""
    if jwk.alg not in (None, algorithm):
        return False
    if jwk.kty == "RSA":
        return algorithm in RSA
    if jwk.kty == "EC":
        return CURVES.get(jwk.crv or "") == algorithm
    return jwk.kty == "OKP" and jwk.crv in ("Ed25519", "Ed448") and algorithm == "EdDSA"


def _least(jwk: _Jwk) -> int:
    return MIN_RSA_BITS if jwk.kty == "RSA" else 0


@asynccontextmanager
async def open_issuers(
    configs: Sequence[IssuerConfig], log: FilteringBoundLogger
) -> AsyncIterator[Mapping[str, ExternalIssuer]]:
    """Yields the issuers by their name; asks none of them yet. Raises `StartError` for a ``ca_file`` of no use."""
    async with AsyncExitStack() as stack:
        issuers: dict[str, ExternalIssuer] = {}
        for config in configs:
            client = httpx.AsyncClient(verify=await _trust(config), timeout=FETCH_SECONDS, follow_redirects=False)
            issuer = ExternalIssuer(config, await stack.enter_async_context(client), log)
            stack.push_async_callback(issuer.close)
            issuers[config.issuer] = issuer
        yield issuers


async def _trust(config: IssuerConfig) -> ssl.SSLContext:
    try:
        return await asyncio.to_thread(ssl.create_default_context, cafile=config.ca_file)
    except OSError as error:
        message = f"the ca_file {config.ca_file} of the issuer {config.issuer} cannot be used: {error}"
        raise StartError(message) from error
