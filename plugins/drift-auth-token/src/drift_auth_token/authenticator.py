"""Finds out who sends a token, and keeps what it found until the token ends or anything is revoked."""

import asyncio
import hashlib
import re
import secrets
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from drift_auth_token import opaque, tables
from drift_auth_token.asked import wanted
from drift_auth_token.compact import MAX_TOKEN, present, verify
from drift_auth_token.config import TokenConfig
from drift_auth_token.docker import docker_routes
from drift_auth_token.grants import Grants
from drift_auth_token.identity import TokenIdentity
from drift_auth_token.issuers import ExternalIssuer
from drift_auth_token.keys import Keyring, Keys
from drift_auth_token.login import login_routes
from drift_auth_token.management import robot_routes, token_routes
from drift_auth_token.measured import Measured
from drift_auth_token.service import TokenService
from drift_auth_token.signed import named
from drift_core.api import Credentials, RegistryError, Scope, Services, Snapshot, Unauthorized, asking, pages

KNOWN = 8192
"""Most tokens that a worker remembers; a few MB."""

KNOWN_SECONDS = 300.0
"""Longest time for which a token counts as checked: a key that its issuer has withdrawn is noticed by then."""

UPKEEP_SECONDS = 60.0
"""How often the last use of tokens is written down, and old keys and grants are looked for."""

HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


class _Known(Struct, frozen=True):
    """What a token was found to be; ``identity`` None is everybody. ``until`` is in seconds since the epoch."""

    identity: TokenIdentity | None
    until: float


class TokenAuthenticator:
    """Takes Bearer tokens of this registry and of configured issuers, and robots and personal tokens as passwords."""

    def __init__(
        self,
        config: TokenConfig,
        services: Services,
        snapshot: Snapshot[Keyring],
        service: TokenService,
        issuers: Mapping[str, ExternalIssuer],
    ) -> None:
        self.service = service
        self._config = config
        self._services = services
        self._snapshot = snapshot
        self._issuers = issuers
        self._measured: Measured = service.measured
        self._keyring: Keyring | None = None
        self._known: dict[bytes, _Known] = {}
        self._hash_key = secrets.token_bytes(32)
        self._uses: dict[str, float] = {}

    async def authenticate(self, credentials: Credentials) -> TokenIdentity | None:
        """See `Authenticator`. Raises `Unavailable` where the keys of another issuer cannot be fetched."""
        value = credentials.authorization
        if value is None:
            return None
        keyring = await self._snapshot.get()
        if keyring is not self._keyring:
            self._keyring = keyring
            self._known.clear()
        if len(value) > 2 * MAX_TOKEN:
            return _oversized(value)
        # A hash under a key of this process: no token lies in memory, and how long a look-up takes tells nothing.
        place = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16, key=self._hash_key).digest()
        known = self._known.get(place)
        now = time.time()
        if known is not None and known.until > now:
            self._measured.hits.inc()
        else:
            try:
                known = await self._recognised(value, keyring)
            except RegistryError:
                self._measured.refused.inc()
                raise
            if known is None:
                return None
            # While it was checked something may have been revoked: what is kept has to be from after that.
            if keyring is self._keyring:
                self._remember(place, known)
        identity = known.identity
        if identity is None:
            return None
        # What is known of a token does not say how its owner stands at this moment.
        await self.service.check_owner(identity)
        if identity.grant:
            self._uses[identity.grant] = now
        return identity

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """Returns where to get a token for ``scopes`` (distribution, "Token Authentication Specification")."""
        challenge = f'Bearer realm="{self._realm()}",service="{self._config.service}"'
        scope = wanted(scopes)
        return f'{challenge},scope="{scope}"' if scope else challenge

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        return [
            *docker_routes(self.service, self._services.access),
            *login_routes(self.service, self._services.access),
            *token_routes(self.service, self._services.access),
            *robot_routes(self.service, self._services.access),
        ]

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        # What a command does not need.
        from drift_auth_token.pages import pages_over  # noqa: PLC0415

        return pages_over(self.service, self._services.access)

    async def keep_up(self) -> None:
        """Writes down uses, replaces old keys and forgets what has expired, until it is cancelled."""
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            await self.flush()
            try:
                await self.service.upkeep()
            except RegistryError as error:
                self._services.log.warning("tokens cannot be kept up", error=str(error))

    async def flush(self) -> None:
        """Writes down which grants were used since the last time; where that fails, the times are lost."""
        uses, self._uses = self._uses, {}
        try:
            await self.service.grants.note_uses(uses)
        except RegistryError as error:
            self._services.log.warning("the last use of tokens cannot be kept", error=str(error))

    async def _recognised(self, value: str, keyring: Keyring) -> _Known | None:
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            case "bearer":
                return await self._bearer(rest.strip(), keyring)
            case "basic":
                return await self._basic(rest.strip())
            case _:
                return None

    async def _basic(self, value: str) -> _Known | None:
        try:
            name, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return None
        if not password.startswith(("drift_pat_", "drift_robot_")):
            return None
        return await self._opaque(password, name)

    async def _bearer(self, token: str, keyring: Keyring) -> _Known | None:
        if token.startswith("drift_"):
            # Another plugin may have opaque tokens, too.
            ours = token.startswith(("drift_pat_", "drift_robot_", "drift_refresh_"))
            return await self._opaque(token) if ours else None
        presented = present(token)
        if presented.issuer == self._config.issuer:
            key = keyring.verifier(presented.header.kid or "")
            if key is None:
                raise Unauthorized("the token is signed by an unknown key")
            identity = named(verify(presented, key.public, key.algorithm, self._config.service, 0.0))
            if identity is not None and identity.grant:
                grant = await self.service.grants.living(identity.grant)
                if grant is None:
                    raise Unauthorized("the token was revoked", username=identity.name)
                identity = msgspec.structs.replace(identity, owner=await self.service.grants.owner(grant))
            return self._checked(identity)
        if presented.issuer is None:
            raise Unauthorized("the token does not say who made it")
        issuer = self._issuers.get(presented.issuer)
        return None if issuer is None else self._checked(await issuer.identify(presented))

    async def _opaque(self, text: str, name: str | None = None) -> _Known:
        token = opaque.parse(text)
        grant = None if token is None else await self.service.grants.redeem(token, ("pat", "robot"))
        if grant is None or name not in (None, grant.name):
            raise Unauthorized("the token is not known, has expired or was revoked", username=name)
        return self._checked(grant.identity(await self.service.grants.owner(grant)))

    def _checked(self, identity: TokenIdentity | None) -> _Known:
        self._measured.verified.labels("anonymous" if identity is None else identity.use).inc()
        until = time.time() + (self._config.token_seconds if identity is None else KNOWN_SECONDS)
        return _Known(identity, until if identity is None or identity.expires is None else min(until, identity.expires))

    def _remember(self, place: bytes, known: _Known) -> None:
        if len(self._known) >= KNOWN:
            del self._known[next(iter(self._known))]
        self._known[place] = known

    def _realm(self) -> str:
        if self._config.realm is not None:
            return self._config.realm
        request = asking()
        host = None if request is None else request.header("host")
        if request is None or host is None or HOST.fullmatch(host) is None:
            scheme = "https" if self._services.server.cert_file else "http"
            return f"{scheme}://{self._services.server.bind_addr}/auth/token"
        return f"{request.scheme}://{host}/auth/token"


def _oversized(value: str) -> None:
    if value[:7].lower() == "bearer ":
        raise Unauthorized(f"the token is longer than {MAX_TOKEN} characters")


@asynccontextmanager
async def open_authenticator(config: TokenConfig, services: Services) -> AsyncIterator[TokenAuthenticator]:
    """Yields the authenticator; makes the first key where there is none. Raises `StartError`."""
    keys = Keys(config, services.records)
    await keys.prepare()
    snapshot = Snapshot(services.records, tables.revision, keys.load)
    measured = Measured(services.metrics)
    grants = Grants(services.records, services.audit)
    service = TokenService(config, keys, snapshot, grants, services.access, services.audit, measured)
    async with _issuers(config, services) as issuers:
        authenticator = TokenAuthenticator(config, services, snapshot, service, issuers)
        upkeep = asyncio.create_task(authenticator.keep_up())
        try:
            yield authenticator
        finally:
            upkeep.cancel()
            await asyncio.wait([upkeep])
            await authenticator.flush()


@asynccontextmanager
async def _issuers(config: TokenConfig, services: Services) -> AsyncIterator[Mapping[str, ExternalIssuer]]:
    if not config.issuers:
        yield {}
        return
    # Who trusts no other issuer needs no HTTP client.
    from drift_auth_token.issuers import open_issuers  # noqa: PLC0415

    async with open_issuers(config.issuers, services.log) as issuers:
        yield issuers
