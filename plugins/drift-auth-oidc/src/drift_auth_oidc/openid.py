"""Logs people in by an OpenID provider (OpenID Connect Core 1.0 section 3.1)."""

import hmac
from typing import Any

from drift_auth_oidc.config import AzureConfig, GoogleConfig, IssuerConfig, LoginKeys
from drift_auth_oidc.fetching import Fetcher
from drift_auth_oidc.issuer import Issuer
from drift_auth_oidc.oauth import Attempt, Client, authorization_url, exchange
from drift_auth_oidc.person import Known, Person
from drift_core.api import Denied, Unauthorized, Unavailable

OpenIdConfig = IssuerConfig | AzureConfig | GoogleConfig

LONGEST_NAME = 255


class OpenIdProvider:
    """One provider by its name in the configuration; see `drift_auth_oidc.provider.Provider`."""

    def __init__(self, name: str, config: OpenIdConfig, issuer: Issuer, fetcher: Fetcher) -> None:
        self.name = name
        self.redirect_uri = config.redirect_uri
        self.issuer = issuer
        self._config = config
        self._client = Client(config.client_id, config.client_secret, config.scopes)
        self._fetcher = fetcher

    async def begin(self, attempt: Attempt) -> str:
        """See `Provider`."""
        metadata = await self.issuer.metadata()
        if metadata.authorization_endpoint is None:
            raise Unavailable(f"{self.issuer.url} lets nobody log in by a browser")
        return authorization_url(metadata.authorization_endpoint, self._client, attempt, nonce=attempt.nonce)

    async def finish(self, attempt: Attempt, code: str) -> Known:
        """See `Provider`."""
        metadata = await self.issuer.metadata()
        if metadata.token_endpoint is None:
            raise Unavailable(f"{self.issuer.url} lets nobody log in by a browser")
        methods = metadata.token_endpoint_auth_methods_supported
        given = await exchange(self._fetcher, metadata.token_endpoint, self._client, attempt, code, methods)
        token = given.get("id_token")
        if not isinstance(token, str):
            raise Unauthorized("the login provider gave no ID token")
        claims = await self.issuer.verify(token, self._config.client_id)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
            raise Unauthorized("the ID token is of another login")
        if metadata.userinfo_endpoint is not None and self._lacks(claims):
            claims = await self._completed(claims, metadata.userinfo_endpoint, given["access_token"])
        return Known(self._admitted(claims))

    async def bearer(self, token: str) -> Person:
        """Returns whom an ID token names that was made for Drift. Raises like `finish`."""
        return self._admitted(await self.issuer.verify(token, self._config.client_id))

    def _lacks(self, claims: dict[str, Any]) -> bool:
        names = self._config.claims
        return any(name not in claims for name in (names.username, names.email, names.groups))

    async def _completed(self, claims: dict[str, Any], endpoint: str, access_token: str) -> dict[str, Any]:
        """Returns the claims, with those that the provider only tells at its UserInfo endpoint (section 5.3)."""
        more = await self._fetcher.document(endpoint, {"authorization": f"Bearer {access_token}"})
        if not isinstance(more, dict) or more.get("sub") != claims["sub"]:  # pyright: ignore[reportUnknownMemberType]
            raise Unauthorized("the UserInfo endpoint speaks of somebody else")
        return {**more, **claims}

    def _admitted(self, claims: dict[str, Any]) -> Person:
        config, names = self._config, self._config.claims
        if isinstance(config, AzureConfig):
            check_tenant(config, claims)
        email, domain = text(claims, names.email), domain_of(config, claims)
        groups = strings(claims.get(names.groups))
        if config.allowed_groups and groups.isdisjoint(config.allowed_groups):
            raise Denied("you are in none of the groups that may log in")
        if config.allowed_domains and domain not in {allowed.lower() for allowed in config.allowed_domains}:
            raise Denied("your domain is none of those that may log in")
        if not strings(claims.get(names.roles)).issuperset(config.required_roles):
            raise Denied("you lack a role that is needed to log in")
        return Person(
            provider=self.name,
            subject=str(claims["sub"])[:LONGEST_NAME],
            name=prefixed(self.name, config.username_prefix, username(config, claims)),
            email=email,
            full_name=text(claims, names.name),
            avatar_url=text(claims, names.picture),
            groups=tuple(sorted(groups)),
            roles=tuple(sorted(roles_of(config, groups, domain))),
        )


def prefixed(provider: str, prefix: str | None, name: str) -> str:
    """Returns a name that people of other providers, and local users, cannot have. Raises `Unauthorized`."""
    full = f"{provider}:{name}" if prefix is None else f"{prefix}{name}"
    if not name or len(full) > LONGEST_NAME or not full.isprintable():
        raise Unauthorized("the login provider gave no usable name")
    return full


def username(config: LoginKeys, claims: dict[str, Any]) -> str:
    """Returns the name that the provider gives. Raises `Unauthorized`."""
    name = text(claims, config.claims.username)
    if name is None:
        raise Unauthorized(f"the login provider did not say the claim {config.claims.username}")
    if config.claims.username == config.claims.email and claims.get("email_verified") is not True:
        # Else everybody could be anybody who has an email address.
        raise Unauthorized("the login provider has not verified the email address")
    return name


def domain_of(config: LoginKeys, claims: dict[str, Any]) -> str | None:
    """Returns the domain that somebody has proved to belong to, in lower case, or None."""
    if isinstance(config, GoogleConfig):
        domain = text(claims, "hd")
        return domain.lower() if domain else None
    email = text(claims, config.claims.email)
    if email is None or claims.get("email_verified") is not True or "@" not in email:
        return None
    return email.rpartition("@")[2].lower()


def roles_of(config: LoginKeys, groups: frozenset[str], domain: str | None) -> set[str]:
    """Returns the roles of somebody with these groups and this domain."""
    by_group = {mapping.role for mapping in config.group_mappings if mapping.group in groups}
    return by_group | {mapping.role for mapping in config.domain_mappings if mapping.domain.lower() == domain}


def check_tenant(config: AzureConfig, claims: dict[str, Any]) -> None:
    """Refuses who belongs to another tenant, or to more groups than a token can name. Raises `Denied`."""
    # The issuer has been verified, and is one of the tenants'.
    if not str(claims["iss"]).endswith(f"/{claims.get('tid')}/v2.0"):
        raise Denied("your tenant is none of those that may log in")
    elsewhere = claims.get("_claim_names")
    if (
        isinstance(elsewhere, dict)
        and config.claims.groups in elsewhere
        and (config.allowed_groups or config.group_mappings)
    ):
        raise Denied(
            "you are in more groups than a token can name; let Microsoft Entra send only those of the application"
        )


def text(claims: dict[str, Any], name: str) -> str | None:
    """Returns a claim that is text, or None."""
    value = claims.get(name)
    return value if isinstance(value, str) and value else None


def strings(value: Any) -> frozenset[str]:
    """Returns a claim that is text, or a list of it, as a set."""
    if isinstance(value, str):
        return frozenset({value})
    if not isinstance(value, list):
        return frozenset()
    elements: list[Any] = [*value]  # pyright: ignore[reportUnknownArgumentType]
    return frozenset(element for element in elements if isinstance(element, str))
