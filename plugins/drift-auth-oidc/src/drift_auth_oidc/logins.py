"""Logs a browser in by a provider: begun here, finished where the provider sends the browser back."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from drift_auth_oidc import tables
from drift_auth_oidc.grants import Grants
from drift_auth_oidc.oauth import Attempt
from drift_auth_oidc.openid import OpenIdProvider
from drift_auth_oidc.person import Known
from drift_auth_oidc.provider import Provider
from drift_auth_oidc.seal import Seal
from drift_core.api import Records, Unauthorized

LOGIN_SECONDS = 600
"""How long somebody may take at the provider."""


class Logins:
    """Everything that a login needs lies sealed in a cookie, so that to begin one costs the server nothing."""

    def __init__(self, providers: Mapping[str, Provider], grants: Grants, records: Records, seal: Seal) -> None:
        self.providers = providers
        self._grants = grants
        self._records = records
        self._seal = seal

    async def begin(self, provider: Provider, base: str, next_path: str) -> tuple[str, str]:
        """Returns the URL at which the browser logs in, and the cookie with which it comes back.

        Raises `Unavailable` where the provider does not answer.
        """
        attempt = Attempt(
            provider=provider.name,
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=provider.redirect_uri or f"{base}/auth/{provider.name}/callback",
            next_path=next_path,
        )
        return await provider.begin(attempt), self._seal.close(msgspec.json.encode(attempt))

    async def finish(self, provider: Provider, query: Mapping[str, str], cookie: str | None) -> tuple[Known, str]:
        """Returns who has logged in, and where the browser goes next.

        Raises:
            Unauthorized: this browser did not begin it, or not lately; it has come back already; or `Provider.finish`.
            Denied: see `Provider.finish`.
            Unavailable: see `Provider.finish`.
        """
        opened = None if cookie is None else self._seal.open(cookie, LOGIN_SECONDS)
        if opened is None:
            raise Unauthorized("this browser has not begun a login in the last ten minutes")
        attempt = msgspec.json.decode(opened, type=Attempt)
        state = query.get("state", "")
        if attempt.provider != provider.name or not hmac.compare_digest(state.encode(), attempt.state.encode()):
            raise Unauthorized("this browser has not begun this login")
        await self._use(state)
        if isinstance(provider, OpenIdProvider) and query.get("iss", provider.issuer.url) != provider.issuer.url:
            # A code of another provider (RFC 9207).
            raise Unauthorized("the answer is of another login provider")
        if "error" in query:
            raise Unauthorized("the login provider refused", reason=query["error"][:100])
        if not query.get("code"):
            raise Unauthorized("the login provider gave no code")
        return await provider.finish(attempt, query["code"]), attempt.next_path

    async def _use(self, state: str) -> None:
        now = self._grants.clock()
        used = hashlib.sha256(state.encode()).hexdigest()

        def change(db: Connection) -> None:
            db.execute(delete(tables.states).where(tables.states.c.expires < now))
            db.execute(insert(tables.states).values(hash=used, expires=now + LOGIN_SECONDS))

        try:
            await self._records.write(change)
        except IntegrityError:
            raise Unauthorized("this login has been used already") from None
