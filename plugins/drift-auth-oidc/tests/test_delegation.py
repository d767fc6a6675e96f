"""Whom the core may give something lasting: a person in a browser, but no program that acts for one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_auth_oidc.config import OidcConfig
from drift_auth_oidc.grants import Kind
from drift_auth_oidc.opening import OidcLogin, open_login
from drift_auth_oidc.person import Known, Person

from drift_core.api import Credentials
from drift_core.conformance import open_records, services

ANN = Known(Person(provider="oidc", subject="ann", name="oidc:ann"))


@pytest.fixture
async def login(provider: Any) -> AsyncIterator[OidcLogin]:
    config = OidcConfig(issuer=provider.issuer, client_id="drift")
    async with (
        open_records("auth-oidc", "drift_auth_oidc.migrations") as records,
        open_login(config, services("auth-oidc", records=records)) as opened,
    ):
        yield opened


async def delegated(login: OidcLogin, authorization: str | None, *headers: tuple[str, str]) -> bool:
    sent = Credentials(authorization, (("host", "localhost"), *headers), "127.0.0.1")
    identity = await login.authenticate(sent)
    assert identity is not None
    assert identity.name == "oidc:ann"
    return identity.delegated


@pytest.mark.parametrize("kind", ["cli", "workload"])
async def test_a_token_of_ours_is_delegated(login: OidcLogin, kind: Kind) -> None:
    secret, _ = await login.grants.issue(kind, ANN, 60, "")
    assert await delegated(login, f"Bearer {secret}")


async def test_an_id_token_is_delegated(login: OidcLogin, provider: Any) -> None:
    assert await delegated(login, f"Bearer {provider.sign()}")


async def test_a_browser_is_not(login: OidcLogin) -> None:
    secret, _ = await login.grants.issue("session", ANN, 60, "")
    assert not await delegated(login, None, ("cookie", f"drift-session={secret}"))
