"""The JWTs of this registry: what is in them, how they are made, and whom they name."""

import time
from collections.abc import Sequence
from typing import Any, Literal

import jwt
import msgspec
from msgspec import Struct

from drift_auth_token.asked import Resource
from drift_auth_token.compact import MAX_TOKEN
from drift_auth_token.config import TokenConfig, parse_scope
from drift_auth_token.identity import SOURCE, TokenIdentity, scope_texts
from drift_auth_token.keys import Keyring
from drift_auth_token.opaque import new_id
from drift_core.api import Denied, Identity, Owner, Scope, Unauthorized


class Issued(Struct, frozen=True):
    """A token that was made; ``seconds`` is how long it lives, ``at`` when it was made, since the epoch."""

    token: str
    id: str
    at: int
    seconds: int


class _Claims(Struct, frozen=True, kw_only=True):
    """What is in a token beside the registered claims; ``sid`` is the grant on which it depends.

    ``delegated`` is that of the identity which it names; a token of the Docker protocol is so without the claim.
    """

    sub: str
    iat: float
    exp: int
    use: Literal["access", "login"]
    sid: str = ""
    src: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    delegated: bool = False
    access: tuple[Resource, ...] | None = None


def access_token(
    config: TokenConfig, keyring: Keyring, identity: Identity | None, access: Sequence[Resource]
) -> Issued:
    """Returns a token of the Docker protocol for what was granted; ``identity`` None is for everybody.

    Raises `Denied` where it would be longer than `MAX_TOKEN`.
    """
    claims = {"use": "access", "access": [msgspec.to_builtins(resource) for resource in access]}
    return _signed(config, keyring, identity, config.token_seconds, claims)


def login_token(config: TokenConfig, keyring: Keyring, identity: TokenIdentity) -> Issued:
    """Returns the token of a login, for all that its owner may do. Raises `Denied` where it would be too long."""
    claims = {"use": "login", "scopes": scope_texts(identity), "delegated": identity.delegated}
    return _signed(config, keyring, identity, config.login_seconds, claims)


def _signed(
    config: TokenConfig, keyring: Keyring, identity: Identity | None, seconds: int, own: dict[str, Any]
) -> Issued:
    now, key = int(time.time()), keyring.signer()
    held = identity if isinstance(identity, TokenIdentity) else None
    # A token that is made by another one ends with it, so that nobody renews one without an end.
    ends = now + seconds if held is None or held.expires is None else min(now + seconds, int(held.expires))
    claims: dict[str, Any] = {
        "iss": config.issuer,
        "aud": config.service,
        "sub": "" if identity is None else identity.name,
        "iat": now,
        "nbf": now - int(config.clock_skew_seconds),
        "exp": ends,
        "jti": new_id(),
        **own,
    }
    if identity is not None:
        claims |= {"src": identity.source, "groups": sorted(identity.groups), "roles": sorted(identity.roles)}
    if held is not None and held.grant:
        claims["sid"] = held.grant
    token = jwt.encode(claims, key.private, key.algorithm, headers={"kid": key.kid})
    if len(token) > MAX_TOKEN:
        raise Denied("the token would be too long: too many groups, roles or repositories")
    return Issued(token, claims["jti"], now, ends - now)


def named(claims: dict[str, Any]) -> TokenIdentity | None:
    """Returns whom the verified claims of one of our tokens name, None for nobody. Raises `Unauthorized`.

    Of one that depends on a grant, that says whose it is.
    """
    try:
        read = msgspec.convert(claims, _Claims)
        limits = None if read.scopes is None else frozenset(map(parse_scope, read.scopes))
    except (msgspec.ValidationError, ValueError):
        raise Unauthorized("the token lacks a claim") from None
    if read.use == "access":
        limits = frozenset[Scope](scope for resource in read.access or () for scope in resource.scopes())
    if not read.sub:
        return None
    return TokenIdentity(
        read.sub,
        read.src,
        frozenset(read.groups),
        frozenset(read.roles),
        limits,
        read.delegated or read.use == "access",
        use=read.use,
        grant=read.sid,
        expires=float(read.exp),
        owner=None if read.sid or read.src == SOURCE else Owner(read.sub, read.src, read.iat),
    )
