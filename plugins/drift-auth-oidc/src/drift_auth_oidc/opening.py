"""Opens the driver: the configured providers, and what Drift gives to those who log in."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from drift_auth_oidc.authenticator import LoginAuthenticator
from drift_auth_oidc.browser import Browser
from drift_auth_oidc.config import AzureConfig, GoogleConfig, IssuerConfig, OidcConfig
from drift_auth_oidc.devices import Devices
from drift_auth_oidc.fetching import Fetcher, open_fetcher
from drift_auth_oidc.github import GitHubProvider
from drift_auth_oidc.grants import Grants, named, of_kind, of_provider
from drift_auth_oidc.issuer import Issuer
from drift_auth_oidc.logins import Logins
from drift_auth_oidc.machine import Machine
from drift_auth_oidc.membership import Membership
from drift_auth_oidc.openid import OpenIdProvider
from drift_auth_oidc.provider import Provider
from drift_auth_oidc.seal import open_seal
from drift_auth_oidc.site import Site
from drift_auth_oidc.workloads import Workload, Workloads
from drift_core.api import Credentials, Identity, Login, Scope, Services, StartError

HOUR, DAY = 3600.0, 86400.0


class Counters:
    """What is measured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.logins = Counter(
            "drift_auth_oidc_logins",
            "Logins that came back from a provider.",
            ("provider", "outcome"),
            registry=registry,
        )
        self.fetches = Counter(
            "drift_auth_oidc_key_fetches",
            "Questions for the keys of an issuer.",
            ("issuer", "outcome"),
            registry=registry,
        )


class OidcLogin:
    """The opened driver; the tokens of `grants` are for its commands."""

    def __init__(
        self, authenticator: LoginAuthenticator, grants: Grants, routes: Sequence[Any], providers: Sequence[str]
    ) -> None:
        self.grants = grants
        self.logins = [Login(f"Log in with {name}", f"/auth/{name}") for name in providers]
        self._providers = frozenset(providers)
        self._authenticator = authenticator
        self._routes = routes

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        return await self._authenticator.authenticate(credentials)

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """See `Authenticator`."""
        return self._authenticator.challenge(scopes)

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        return self._routes

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        """See `SupportsStanding`: as long as the session of the same browser, by which they logged in, is good."""
        return await self._authenticator.stands(identity, credentials) if identity.source in self._providers else None

    async def log_out(self, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """See `SupportsLogout`."""
        return await self._authenticator.log_out(credentials)

    async def log_out_everywhere(self, identity: Identity) -> None:
        """See `SupportsLogout`; tokens of `drift login` stay."""
        wanted = named(identity.name) & of_provider(identity.source) & of_kind("session")
        await self.grants.revoke(wanted, "logout everywhere")


@asynccontextmanager
async def open_login(config: OidcConfig, services: Services) -> AsyncGenerator[OidcLogin]:
    """Opens the driver; no provider is asked before it is needed. Raises `StartError`."""
    counters = Counters(services.metrics)
    seal = await open_seal(services.records)
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(open_fetcher())
        opener = _Opener(stack, fetcher, services, counters)
        plain, providers = opener.providers(config)
        workloads = [Workload(one, opener.issuer(one.issuer, one.clock_skew_seconds)) for one in config.workloads]
        if not providers and not workloads:
            raise StartError("auth.oidc names no provider: set issuer and client_id, or enable a preset in auth.oauth")
        grants = Grants(services.records, seal, services.audit, config.session_idle_minutes * 60)
        membership = Membership(providers, grants, services.log)
        stack.push_async_callback(membership.close)
        authenticator = LoginAuthenticator(grants, membership, Site(config.public_url), plain)
        logins = Logins(providers, grants, services.records, seal)
        browser = Browser(logins, grants, authenticator, services, counters.logins, config.session_hours * HOUR)
        devices = Devices(services.records, grants, config.cli_token_days * DAY)
        jobs = Workloads(workloads, grants)
        machine = Machine(devices, jobs, browser, authenticator, services, list(providers))
        yield OidcLogin(authenticator, grants, [*browser.routes(), *machine.routes()], list(providers))


class _Opener:
    """Makes issuers and providers of what the configuration says."""

    def __init__(self, stack: AsyncExitStack, fetcher: Fetcher, services: Services, counters: Counters) -> None:
        self._stack = stack
        self._fetcher = fetcher
        self._services = services
        self._counters = counters

    def issuer(self, url: str, skew: float, **more: Any) -> Issuer:
        issuer = Issuer(self._fetcher, url, self._services.log, self._counters.fetches, skew=skew, **more)
        self._stack.push_async_callback(issuer.close)
        return issuer

    def providers(self, config: OidcConfig) -> tuple[OpenIdProvider | None, dict[str, Provider]]:
        """Returns the plain provider, or None, and all of them by name."""
        found: dict[str, Provider] = {}
        plain = None if config.plain is None else self._openid("oidc", config.plain)
        if plain is not None:
            found["oidc"] = plain
        for name, issuer in config.providers.items():
            found[name] = self._openid(name, issuer)
        oauth = config.oauth
        if oauth.enabled:
            if oauth.azure is not None:
                found["azure"] = self._azure(oauth.azure)
            if oauth.google is not None:
                found["google"] = self._openid("google", oauth.google)
            if oauth.github is not None:
                found["github"] = GitHubProvider(oauth.github, self._fetcher)
        return plain, found

    def _openid(self, name: str, config: IssuerConfig | GoogleConfig) -> OpenIdProvider:
        return OpenIdProvider(name, config, self.issuer(config.issuer, config.clock_skew_seconds), self._fetcher)

    def _azure(self, config: AzureConfig) -> OpenIdProvider:
        authority = config.authority.rstrip("/")
        names = frozenset(f"{authority}/{tenant}/v2.0" for tenant in (config.tenant_id, *config.tenants))
        if not config.tenants:
            (url,) = names
            announced = names
        else:
            # The document of all tenants has this placeholder; whose token it is, its own iss and tid say.
            url, announced = f"{authority}/organizations/v2.0", frozenset({f"{authority}/{{tenantid}}/v2.0"})
        issuer = self.issuer(url, config.clock_skew_seconds, names=names, announced=announced)
        return OpenIdProvider("azure", config, issuer, self._fetcher)
