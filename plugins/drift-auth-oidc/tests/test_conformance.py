"""The kit's rules for authenticators and plugins."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from drift_auth_oidc import plugin
from drift_auth_oidc.config import (
    AzureConfig,
    DomainMapping,
    GitHubConfig,
    GoogleConfig,
    GroupMapping,
    IssuerConfig,
    OAuthConfig,
    OidcConfig,
    TeamMapping,
    WorkloadConfig,
    WorkloadRule,
)
from drift_auth_oidc.grants import named
from drift_auth_oidc.issuer import RETRY_SECONDS
from drift_auth_oidc.opening import OidcLogin, open_login
from drift_auth_oidc.person import Known, Person

from drift_core.api import Credentials, Records, Secret, Services
from drift_core.conformance import AuthenticatorSuite, ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use

CLIENT_ID = "drift"


def sent(authorization: str) -> Credentials:
    return Credentials(authorization, (("authorization", authorization),), "192.0.2.1")


def basic(password: str) -> Credentials:
    return sent("Basic " + b64encode(f"drift:{password}".encode()).decode())


@pytest.fixture
async def records() -> AsyncIterator[Records]:
    async with open_records("auth-oidc", "drift_auth_oidc.migrations") as records:
        # Its threads begin with their first queries, and are no leak of the plugin's.
        await asyncio.gather(*(records.read(lambda _: time.sleep(0.05)) for _ in range(8)))
        yield records


@pytest.fixture
async def login(provider: Any, records: Records) -> AsyncIterator[OidcLogin]:
    mapping = GroupMapping(group="developers", role="read-write")
    config = OidcConfig(issuer=provider.issuer, client_id=CLIENT_ID, group_mappings=(mapping,))
    async with open_login(config, services("auth-oidc", records=records)) as opened:
        yield opened


@pytest.fixture
async def token(login: OidcLogin) -> str:
    """What `drift login` would have got."""
    known = Known(Person(provider="oidc", subject="ann", name="oidc:ann", roles=("read-write",)))
    return (await login.grants.issue("cli", known, 60, "a test"))[0]


class Rotating:
    """The provider, as the kit rotates and stops it."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    async def rotate(self) -> Credentials:
        self.provider.control("rotate")
        return sent(f"Bearer {self.provider.sign()}")

    async def stop(self) -> None:
        self.provider.control("down")

    async def start(self) -> None:
        self.provider.control("up")
        await anyio.sleep(RETRY_SECONDS)


class Shared(AuthenticatorSuite):
    """What both kinds of credentials have in common."""

    @pytest.fixture
    def authenticator(self, login: OidcLogin) -> OidcLogin:
        return login

    @pytest.fixture
    def bad(self, provider: Any) -> list[Credentials]:
        wrong = "drift_cli_" + "a" * 43
        return [
            basic(wrong),
            sent(f"Bearer {wrong}"),
            sent(f"Bearer {provider.sign(kind='foreign')}"),
            sent(f"Bearer {provider.sign(preferred_username=None)}"),
            sent(f"Bearer {provider.sign(sub='')}"),
        ]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return basic("a password of somebody")

    @pytest.fixture
    def guesses(self, token: str) -> tuple[Credentials, Credentials]:
        """Nothing tells whose a token is: one that is nearly right costs what any other costs."""
        return basic(token[:-1] + ("A" if token[-1] != "A" else "B")), basic("drift_cli_" + "a" * 43)

    @pytest.fixture
    def expired(self, provider: Any) -> Credentials:
        return sent(f"Bearer {provider.sign(exp=int(time.time()) - 61)}")

    @pytest.fixture
    def not_yet_valid(self, provider: Any) -> Credentials:
        return sent(f"Bearer {provider.sign(nbf=int(time.time()) + 120)}")

    @pytest.fixture
    def wrong_audience(self, provider: Any) -> Credentials:
        return sent(f"Bearer {provider.sign(aud='elsewhere')}")

    @pytest.fixture
    def unsigned(self, provider: Any) -> Credentials:
        return sent(f"Bearer {provider.sign(kind='unsigned')}")

    @pytest.fixture
    def unknown_key(self, provider: Any) -> Credentials:
        return sent(f"Bearer {provider.sign(header={'kid': 'of nobody'})}")

    @pytest.fixture
    def issuer(self, provider: Any) -> Any:
        rotating = Rotating(provider)
        yield rotating
        provider.control("up")


class Revocable(Shared):
    """What Drift has given out; an ID token lives until it expires."""

    @pytest.fixture
    def revoke(self, login: OidcLogin) -> Callable[[], Awaitable[None]]:
        async def revoke() -> None:
            await login.grants.revoke(named("oidc:ann"), "a test")

        return revoke


class TestTokens(Revocable):
    """What `drift login` gets, as a password."""

    @pytest.fixture
    def good(self, token: str) -> tuple[Credentials, str]:
        return basic(token), "oidc:ann"


class TestTokensAsBearer(Revocable):
    @pytest.fixture
    def good(self, token: str) -> tuple[Credentials, str]:
        return sent(f"Bearer {token}"), "oidc:ann"


class TestIdTokens(Shared):
    """The provider's own tokens, which only it can revoke."""

    @pytest.fixture
    def good(self, provider: Any) -> tuple[Credentials, str]:
        return sent(f"Bearer {provider.sign()}"), "oidc:ann"


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def services(self, records: Records) -> Services:
        return services("auth-oidc", records=records)

    @pytest.fixture
    def configs(self) -> tuple[OidcConfig, OidcConfig]:
        secret = Secret("s")
        rule = WorkloadRule(name="ci", claims={"repository": "acme/*"}, scopes=("repository:acme/app:pull,push",))
        return (
            OidcConfig(issuer="https://login.example.org", client_id="drift", client_secret=secret),
            OidcConfig(
                providers={"keycloak": IssuerConfig(issuer="https://k.example.org", client_id="d")},
                oauth=OAuthConfig(
                    enabled=True,
                    azure=AzureConfig(tenant_id="t-1", tenants=("t-2",), client_id="a", client_secret=secret),
                    google=GoogleConfig(
                        client_id="g",
                        allowed_domains=("example.org",),
                        domain_mappings=(DomainMapping(domain="example.org", role="read-only"),),
                    ),
                    github=GitHubConfig(
                        client_id="h",
                        client_secret=secret,
                        allowed_teams=("acme/ops",),
                        team_mappings=(TeamMapping(team="acme/ops", role="admin"),),
                    ),
                ),
                workloads=(WorkloadConfig(issuer="https://ci.example.org", audience="drift", rules=(rule,)),),
                public_url="https://registry.example.org",
            ),
        )

    @pytest.fixture
    def unreachable(self) -> tuple[OidcConfig, str]:
        return OidcConfig(issuer="http://127.0.0.1:1", client_id="drift"), "http://127.0.0.1:1"

    @pytest.fixture
    def use(self) -> Use:
        async def ask(opened: OidcLogin) -> None:
            unverified = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjEifQ.c2ln"
            await opened.authenticate(sent(f"Bearer {unverified}"))

        return ask
