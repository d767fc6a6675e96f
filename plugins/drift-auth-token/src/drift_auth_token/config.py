"""What ``[auth.token]`` may say."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from drift_core.api import Scope, Secret, is_loopback

DEFAULT_SECRET = "change-me-in-production"  # noqa: S105 - the one that everybody knows
MIN_SECRET = 32
"""Fewest bytes of a shared key: RFC 7518 section 3.2 wants as many as the hash has."""

ASYMMETRIC = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]


class IssuerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``issuers``: somebody else whose JWTs are taken as Bearer tokens.

    ``issuer`` is the claim ``iss``, ``audience`` what the claim ``aud`` has to hold. The keys are read at ``jwks_url``;
    None asks ``<issuer>/.well-known/openid-configuration``, which may name only a URL of the same origin. ``ca_file``
    has the authorities to trust there, in PEM; None trusts those of the system.

    ``username_claim`` gives the name, with ``name_prefix`` before it, None being the issuer's host and ``:``.
    ``groups_claim`` gives the groups, None being none. ``scopes``, such as ``repository:team/*:pull``, are the most
    that such a token may be used for; None limits nothing.
    """

    issuer: Annotated[str, Meta(min_length=1)]
    audience: Annotated[str, Meta(min_length=1)]
    jwks_url: str | None = None
    ca_file: str | None = None
    algorithms: Annotated[tuple[ASYMMETRIC, ...], Meta(min_length=1)] = ("ES256", "RS256", "EdDSA")
    username_claim: str = "sub"
    groups_claim: str | None = None
    name_prefix: str | None = None
    clock_skew_seconds: Annotated[float, Meta(ge=0, le=600)] = 60.0
    scopes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key, url in (("issuer", self.issuer if self.jwks_url is None else None), ("jwks_url", self.jwks_url)):
            if url is not None and not is_safe(url):
                message = f"{key} must be a URL with https, or with http to this machine"
                raise ValueError(message)
        for scope in self.scopes or ():
            parse_scope(scope)

    @property
    def prefix(self) -> str:
        """What stands before the names of this issuer, so that they are not those of users of this registry."""
        return f"{urlsplit(self.issuer).hostname or self.issuer}:" if self.name_prefix is None else self.name_prefix


class TokenConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.token]``; ``jwt_secret`` and ``token_expiry_hours`` may stand in ``[auth]``, as in the original.

    ``algorithm`` signs the tokens: ``HS256`` by ``jwt_secret``, the others by keys that are made at the first start and
    replaced every ``rotate_days`` days. A token of the Docker protocol lives ``token_seconds``, a login
    ``token_expiry_hours``, and what renews them ``refresh_days``. ``max_token_days`` bounds the life of personal access
    tokens and robots; None lets them live for ever.

    ``realm`` is the URL of the token endpoint as clients reach it; None takes the one that the request was sent to.
    ``service`` names this registry as the audience of its tokens, ``issuer`` as their maker. The clocks of the nodes
    may differ by ``clock_skew_seconds``.
    """

    jwt_secret: Secret | None = None
    token_expiry_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    algorithm: Literal["ES256", "RS256", "EdDSA", "HS256"] = "ES256"
    rotate_days: Annotated[float, Meta(gt=0)] = 90.0
    token_seconds: Annotated[int, Meta(ge=60, le=86400)] = 300
    refresh_days: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    max_token_days: Annotated[float, Meta(gt=0)] | None = None
    realm: str | None = None
    service: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:/ -]+$")] = "drift"
    issuer: Annotated[str, Meta(min_length=1)] = "drift"
    clock_skew_seconds: Annotated[float, Meta(ge=0, le=600)] = 30.0
    issuers: tuple[IssuerConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.algorithm == "HS256":
            _check_secret(self.jwt_secret)
        if self.realm is not None and ('"' in self.realm or not urlsplit(self.realm).scheme.startswith("http")):
            message = "realm must be a URL, such as https://registry.example/auth/token"
            raise ValueError(message)
        names = [self.issuer, *(other.issuer for other in self.issuers)]
        if len(names) != len(set(names)):
            message = "issuers must have names that differ, also from that of this registry"
            raise ValueError(message)

    @property
    def login_seconds(self) -> int:
        """How long the token of a login lives."""
        return max(int(self.token_expiry_hours * 3600), 1)

    @property
    def refresh_seconds(self) -> float:
        """How long a login, or a refresh token of the Docker protocol, lives unless it is renewed."""
        return max(self.refresh_days * 86400, self.login_seconds)


def _check_secret(secret: str | None) -> None:
    if secret is None:
        message = "algorithm HS256 needs jwt_secret"
        raise ValueError(message)
    if secret == DEFAULT_SECRET:
        message = "jwt_secret is still the default that everybody knows: choose another"
        raise ValueError(message)
    if len(secret.encode()) < MIN_SECRET:
        message = f"jwt_secret must have at least {MIN_SECRET} bytes"
        raise ValueError(message)


def is_safe(url: str) -> bool:
    """Returns whether what is fetched from a URL comes from whom it names: https, or a port of this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def parse_scope(text: str) -> Scope:
    """Returns a right that is granted, such as ``repository:team/*:pull``. Raises `ValueError`."""
    kind, first, rest = text.partition(":")
    name, second, action = rest.rpartition(":")
    if not (first and second and kind and name and action) or len(text) > 512 or not text.isprintable():  # noqa: PLR2004 - a name has at most 255 characters
        message = f"not a scope: {text[:64]!r}; write kind:name:action, such as repository:team/*:pull"
        raise ValueError(message)
    return Scope(kind, name, action)
