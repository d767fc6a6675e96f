"""Finds out who asks: by the cookie of a session, by a token that Drift gave out, or by an ID token."""

from base64 import b64decode
from collections.abc import Sequence

from msgspec import Struct

from drift_auth_oidc.grants import PREFIXES, Grant, Grants, Kind, of_id, of_kind
from drift_auth_oidc.issuer import issuer_of
from drift_auth_oidc.membership import Membership
from drift_auth_oidc.openid import OpenIdProvider
from drift_auth_oidc.site import CSRF_HEADER, SAFE_METHODS, SESSION, Csrf, Site
from drift_core.api import Credentials, Identity, Scope, Unauthorized

TOKENS: tuple[Kind, ...] = ("cli", "workload")
TOKEN_PREFIXES = tuple(PREFIXES[kind] for kind in TOKENS)


class Session(Struct, frozen=True):
    """A browser that is logged in, and the secret of its cookie."""

    secret: str
    grant: Grant

    @property
    def csrf(self) -> Csrf:
        """What its pages have to show to change something."""
        return Csrf(self.secret)


class LoginAuthenticator:
    """``plain`` is the provider whose ID tokens are taken as they are, or None."""

    def __init__(self, grants: Grants, membership: Membership, site: Site, plain: OpenIdProvider | None) -> None:
        self.site = site
        self._grants = grants
        self._membership = membership
        self._plain = plain

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`. Raises also `Denied`, for what a page of another site makes a browser send."""
        if credentials.authorization is None:
            return await self._by_cookie(credentials)
        scheme, _, value = credentials.authorization.partition(" ")
        match scheme.lower():
            case "basic":
                return await self._by_token(password_of(value))
            case "bearer" if value.startswith(TOKEN_PREFIXES):
                return await self._by_token(value)
            case "bearer" if self._plain is not None and issuer_of(value) in self._plain.issuer.names:
                return (await self._plain.bearer(value)).identity(delegated=True)
            case _:
                return None

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """See `Authenticator`: tokens are passwords to clients of registries."""
        del scopes
        return 'Basic realm="drift"'

    async def session(self, credentials: Credentials) -> Session | None:
        """Returns the session of a browser, None where it has no cookie. Raises `Unauthorized` for one that is over."""
        secret = self.site.cookie(SESSION, credentials)
        if not secret:
            return None
        grant = await self._grants.find(secret, ("session",))
        if grant is None:
            raise Unauthorized("the session is over; log in again")
        return Session(secret, await self._membership.current(grant))

    async def stands(self, identity: Identity, credentials: Credentials) -> bool:
        """Returns whether a browser has a session of somebody that is good. Raises `Unavailable`."""
        try:
            session = await self.session(credentials)
        except Unauthorized:
            return False
        return session is not None and session.grant.person.name == identity.name

    async def log_out(self, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Ends the session of a browser, and returns the header by which it forgets it; nothing without a cookie."""
        secret = self.site.cookie(SESSION, credentials)
        if not secret:
            return ()
        grant = await self._grants.find(secret, ("session",))
        if grant is not None:
            await self._grants.revoke(of_id(grant.id) & of_kind("session"), "logout", grant.person)
        forgotten = self.site.set_cookie(SESSION, "", 0, credentials)
        return (("set-cookie", forgotten.to_header(header="").strip()),)

    async def _by_cookie(self, credentials: Credentials) -> Identity | None:
        session = await self.session(credentials)
        if session is None:
            return None
        if credentials.method not in SAFE_METHODS:
            self.site.check_origin(credentials)
            session.csrf.check(credentials.header(CSRF_HEADER))
        return session.grant.person.identity()

    async def _by_token(self, secret: str) -> Identity | None:
        if not secret.startswith(TOKEN_PREFIXES):
            return None
        grant = await self._grants.find(secret, TOKENS)
        if grant is None:
            raise Unauthorized("the token is unknown, revoked or expired")
        return (await self._membership.current(grant)).person.identity(delegated=True)


def password_of(value: str) -> str:
    """Returns the password of Basic credentials (RFC 7617), "" for what are none."""
    try:
        return b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
