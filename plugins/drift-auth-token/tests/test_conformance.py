"""The kit's rules: every authenticator's, those of one that takes tokens of another issuer, and every plugin's."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable

import jwt
import pytest
from drift_auth_token import opaque, plugin
from drift_auth_token.authenticator import TokenAuthenticator, open_authenticator
from drift_auth_token.config import IssuerConfig, TokenConfig
from drift_auth_token.grants import Grant, begin

from drift_core.api import Credentials, Identity, Records, Scope, Secret, Services, Struct
from drift_core.conformance import AuthenticatorSuite, ModuleSuite
from drift_core.conformance.suites.plugin import Use

from .conftest import Forger, Issuer, authorized, bearer, claims, encoded, lent

REVOKED_SECONDS = 1.0
ALICE = Identity("alice", "basic", frozenset({"dev"}), frozenset({"writer"}))


def basic(name: str, password: str) -> Credentials:
    return authorized(f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}")


class TestToken(AuthenticatorSuite):
    """With a JWT of this registry as the good credentials, which a login holds."""

    @pytest.fixture
    async def authenticator(self, opened: TokenAuthenticator) -> TokenAuthenticator:
        return opened

    @pytest.fixture
    async def login(self, authenticator: TokenAuthenticator) -> tuple[str, str]:
        identity, issued, _ = await authenticator.service.login(ALICE)
        return issued.token, identity.grant

    @pytest.fixture
    def good(self, login: tuple[str, str]) -> tuple[Credentials, str]:
        return bearer(login[0]), "alice"

    @pytest.fixture
    async def bad(self, forger: Forger, login: tuple[str, str]) -> list[Credentials]:
        header, content, signature = login[0].split(".")
        other = await forger.signed(sub="root")
        return [
            bearer(f"{header}.{content}.{other.split('.')[2]}"),
            bearer(f"{header}.{other.split('.')[1]}.{signature}"),
            bearer("drift_pat_0123456789abcdef_" + "0" * 72),
            basic("alice", "drift_robot_0123456789abcdef_" + "0" * 72),
        ]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return basic("alice", "password")

    @pytest.fixture
    async def expired(self, forger: Forger) -> Credentials:
        return bearer(await forger.signed(exp=int(time.time()) - 1))

    @pytest.fixture
    async def not_yet_valid(self, forger: Forger) -> Credentials:
        return bearer(await forger.signed(nbf=int(time.time()) + 60))

    @pytest.fixture
    async def wrong_audience(self, forger: Forger) -> Credentials:
        return bearer(await forger.signed(aud="another"))

    @pytest.fixture
    async def unsigned(self, forger: Forger) -> Credentials:
        kid = (await forger.key()).kid
        return bearer(f"{encoded({'alg': 'none', 'kid': kid})}.{encoded(claims())}.")

    @pytest.fixture
    def unknown_key(self, foreign_key: tuple[str, str]) -> Credentials:
        kid, pem = foreign_key
        return bearer(jwt.encode(claims(), pem, "ES256", headers={"kid": kid}))

    @pytest.fixture
    def revoke(self, authenticator: TokenAuthenticator, login: tuple[str, str]) -> Callable[[], Awaitable[None]]:
        async def revoked() -> None:
            grant = await authenticator.service.grants.find(login[1])
            assert grant is not None
            await authenticator.service.grants.revoke(grant, None)
            await asyncio.sleep(REVOKED_SECONDS)

        return revoked


class TestPersonalToken(TestToken):
    """With a personal access token as a password."""

    @pytest.fixture
    async def made(self, authenticator: TokenAuthenticator) -> tuple[Grant, str]:
        grant = begin("pat", ALICE)
        return grant, await authenticator.service.grant(grant, ALICE)

    @pytest.fixture
    def login(self, made: tuple[Grant, str]) -> tuple[str, str]:  # type: ignore[override]
        return made[1], made[0].id

    @pytest.fixture
    def good(self, made: tuple[Grant, str]) -> tuple[Credentials, str]:
        return basic("alice", made[1]), "alice"

    @pytest.fixture
    def bad(self, made: tuple[Grant, str]) -> list[Credentials]:  # type: ignore[override]
        return [basic("bob", made[1]), basic("alice", made[1][:-1] + "x"), basic("", made[1]), bearer(made[1][:-1])]

    @pytest.fixture
    async def guesses(  # type: ignore[override]
        self, authenticator: TokenAuthenticator, made: tuple[Grant, str]
    ) -> tuple[Credentials, Credentials]:
        other = begin("pat", ALICE)
        wrong = await authenticator.service.grant(other, ALICE)
        # Of both the secret has the right form and checksum; only the first is the name of something.
        await authenticator.service.grants.revoke(other, None)
        return basic("alice", opaque.make("pat", made[0].id)[0]), basic("alice", wrong)


class TestIssuer(AuthenticatorSuite):
    """With tokens of an issuer whose keys are fetched over HTTP."""

    @pytest.fixture
    async def authenticator(self, records: Records, provider: Issuer) -> AsyncIterator[TokenAuthenticator]:
        config = TokenConfig(issuers=(IssuerConfig(**provider.config()),))
        async with open_authenticator(config, lent(records)) as authenticator:
            yield authenticator

    @pytest.fixture
    def issuer(self, provider: Issuer) -> Issuer:
        return provider

    @pytest.fixture
    async def good(self, provider: Issuer) -> tuple[Credentials, str]:
        return await provider.rotate(), "127.0.0.1:bob"

    @pytest.fixture
    def published(self, provider: Issuer) -> Issuer:
        provider.add_key()
        return provider

    @pytest.fixture
    def bad(self, published: Issuer) -> list[Credentials]:
        token = published.token()
        return [bearer(token[:-4] + "AAAA"), bearer(published.token(sub=None)), bearer(published.token(sub=""))]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return bearer(f"{encoded({'alg': 'ES256', 'kid': 'a'})}.{encoded(claims(iss='https://else.example'))}.AAAA")

    @pytest.fixture
    def expired(self, published: Issuer) -> Credentials:
        return bearer(published.token(exp=int(time.time()) - 120))

    @pytest.fixture
    def not_yet_valid(self, published: Issuer) -> Credentials:
        return bearer(published.token(nbf=int(time.time()) + 120))

    @pytest.fixture
    def wrong_audience(self, published: Issuer) -> Credentials:
        return bearer(published.token(aud="another"))

    @pytest.fixture
    def unsigned(self, published: Issuer) -> Credentials:
        return bearer(f"{encoded({'alg': 'none', 'kid': published.kid})}.{encoded(claims(iss=published.url))}.")

    @pytest.fixture
    def unknown_key(self, published: Issuer, foreign_key: tuple[str, str]) -> Credentials:
        return bearer(published.token({"kid": foreign_key[0]}, foreign_key[1]))


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def services(self, records: Records) -> Services:
        return lent(records)

    @pytest.fixture
    def configs(self) -> tuple[TokenConfig, TokenConfig]:
        other = IssuerConfig(issuer="https://ci.example", audience="drift", scopes=("repository:team/*:pull",))
        return (
            TokenConfig(token_seconds=600, issuers=(other,)),
            TokenConfig(
                algorithm="HS256",
                jwt_secret=Secret("not the default, but one that is long enough"),
                realm="https://r.example",
            ),
        )

    @pytest.fixture
    def use(self, provider: Issuer) -> Use:
        async def log_in(authenticator: TokenAuthenticator) -> None:
            limited = Identity("alice", "basic", scopes=frozenset({Scope("repository", "app", "pull")}))
            _, issued, refresh = await authenticator.service.login(limited)
            identity = await authenticator.authenticate(bearer(issued.token))
            assert identity is not None
            assert identity.scopes == limited.scopes
            await authenticator.service.renew(refresh)
            if provider.private is not None:
                await authenticator.authenticate(bearer(provider.token()))

        return log_in

    @pytest.fixture
    def unreachable(self, provider: Issuer) -> tuple[Struct, str]:
        provider.add_key()
        provider.close()
        return TokenConfig(issuers=(IssuerConfig(**provider.config()),)), provider.url
