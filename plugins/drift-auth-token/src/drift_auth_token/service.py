"""What every endpoint and command does with tokens: makes them, renews them and takes them back, on the record."""

import time
from collections.abc import Sequence

from drift_auth_token import opaque, signed
from drift_auth_token.asked import Resource
from drift_auth_token.config import TokenConfig
from drift_auth_token.grants import Grant, Grants, begin
from drift_auth_token.identity import TokenIdentity, gets_lasting
from drift_auth_token.keys import Keyring, Keys
from drift_auth_token.measured import Measured
from drift_auth_token.signed import Issued
from drift_core.api import Access, Audit, AuditEvent, Denied, Identity, Snapshot, Unauthorized


class TokenService:
    """The tokens of one registry."""

    def __init__(
        self,
        config: TokenConfig,
        keys: Keys,
        snapshot: Snapshot[Keyring],
        grants: Grants,
        access: Access,
        audit: Audit,
        measured: Measured,
    ) -> None:
        self.config = config
        self.grants = grants
        self.measured = measured
        self.keys = keys
        self._snapshot = snapshot
        self._access = access
        self._audit = audit

    async def published(self) -> list[dict[str, str]]:
        """Returns the public keys as JWKs."""
        return (await self._snapshot.get()).published()

    async def check_owner(self, identity: TokenIdentity) -> None:
        """Raises `Unauthorized` where the account whose token it is was disabled or removed; asks no database."""
        if identity.owner is not None and not await self._access.owner_stands(identity.owner):
            self.measured.refused.inc()
            raise Unauthorized("the account whose token this is was disabled or removed", username=identity.name)

    async def access(self, identity: Identity | None, access: Sequence[Resource]) -> Issued:
        """Returns a token of the Docker protocol for what was granted. Raises `Denied` where it would be too long."""
        issued = signed.access_token(self.config, await self._snapshot.get(), identity, access)
        await self._audit.note(
            AuditEvent(
                type="TokenIssued",
                severity="debug",
                identity=identity,
                resource_type="Token",
                resource_id=issued.id,
                parameters={"kind": "access", "scopes": [str(resource) for resource in access]},
            )
        )
        self.measured.issued.labels("access").inc()
        return issued

    async def offline(self, identity: Identity, client: str) -> str | None:
        """Returns a refresh token of the Docker protocol; None for somebody who gets nothing that lasts."""
        if not gets_lasting(identity):
            return None
        expires = time.time() + self.config.refresh_seconds
        return await self.grant(begin("docker", identity, title=client, expires=expires), identity)

    async def login(self, identity: Identity) -> tuple[TokenIdentity, Issued, str]:
        """Begins a login, and returns who it is, its token, and what renews it once.

        Raises `Denied` for somebody who gets nothing that lasts.
        """
        if not gets_lasting(identity):
            raise Denied("log in by a password: a credential that was handed out begins no login")
        grant = begin("login", identity, expires=time.time() + self.config.refresh_seconds)
        events = [grant.event("Login", identity), grant.event("TokenIssued", identity)]
        refresh = await self.grants.add(grant, events, identity)
        self.measured.issued.labels("login").inc()
        return grant.identity(), await self._login_token(grant), refresh

    async def renew(self, text: str) -> tuple[TokenIdentity, Issued, str]:
        """Renews a login like `login`. Raises `Unauthorized`; who shows a token that was used ends the login."""
        token = opaque.parse(text)
        login = None if token is None else await self.grants.redeem(token, ("login",))
        if login is not None:
            # Before it is spent: it counts again when the account does.
            await self.check_owner(login.identity(await self.grants.owner(login)))
        expires = time.time() + self.config.refresh_seconds
        renewed = None if token is None else await self.grants.renew(token, expires)
        if renewed is None:
            self.measured.refused.inc()
            raise Unauthorized("the refresh token is not known, was used, has expired or was revoked")
        grant, refresh = renewed
        self.measured.issued.labels("login").inc()
        return grant.identity(), await self._login_token(grant), refresh

    async def redeem_offline(self, text: str) -> TokenIdentity:
        """Returns who holds a refresh token of the Docker protocol, which may be used again. Raises `Unauthorized`."""
        token = opaque.parse(text)
        grant = None if token is None else await self.grants.redeem(token, ("docker",))
        if grant is None:
            self.measured.refused.inc()
            raise Unauthorized("the refresh token is not known, has expired or was revoked")
        identity = grant.identity(await self.grants.owner(grant))
        await self.check_owner(identity)
        return identity

    async def grant(self, grant: Grant, actor: Identity | None, username: str | None = None) -> str:
        """Keeps a grant and returns its token, which nothing shows again. Raises what `Grants.add` does."""
        token = await self.grants.add(grant, [grant.event("TokenIssued", actor, username)], actor)
        self.measured.issued.labels(grant.kind).inc()
        return token

    def person(self, identity: Identity) -> Identity | None:
        """Returns who logged in, apart from the token of the login, with which nothing that is made has to end.

        Returns None for who came by a credential that was handed out, also where that one began a login.
        """
        if identity.delegated:
            return None
        return Identity(identity.name, identity.source, identity.groups, identity.roles, identity.scopes)

    async def upkeep(self) -> None:
        """Replaces a key that is too old, and forgets what has expired."""
        await self.keys.prepare()
        await self.grants.purge(time.time())

    async def _login_token(self, grant: Grant) -> Issued:
        identity = grant.identity()
        return signed.login_token(self.config, await self._snapshot.get(), identity)
