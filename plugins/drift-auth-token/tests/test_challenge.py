"""Where a challenge sends clients: as configured, or as they came, also through a proxy."""

from base64 import b64encode
from pathlib import Path

import pytest
from drift_auth_token.authenticator import TokenAuthenticator

from drift_core.api import Scope
from tests.server import Server

from .conftest import Opening, ask, authorized, bearer

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


async def test_a_realm_that_is_configured(opening: Opening) -> None:
    async with opening(realm="https://r.example/auth/token", service="r.example") as opened:
        scopes = [
            Scope("repository", "a", "push"),
            Scope("repository", "b", "pull"),
            Scope("repository", "a", "delete"),
        ]
        assert opened.challenge(scopes) == (
            'Bearer realm="https://r.example/auth/token",service="r.example",'
            'scope="repository:a:pull,push,delete repository:b:pull"'
        )


@pytest.mark.parametrize("name", ['a",x="b', "a b", "\u20ac", "a\r\nset-cookie: b", "", "a\\"])
async def test_a_name_that_is_none_is_not_repeated(opened: TokenAuthenticator, name: str) -> None:
    good = Scope("repository", "team/app", "pull")
    challenge = opened.challenge([good])
    for scope in (Scope("organization", name, "read"), Scope(name, "a", "read"), Scope("organization", "a", name)):
        assert opened.challenge([scope, good]) == challenge
        assert opened.challenge([scope]) == opened.challenge([])


async def test_outside_a_request_the_address_counts(opened: TokenAuthenticator) -> None:
    assert opened.challenge([]) == 'Bearer realm="http://127.0.0.1:0/auth/token",service="drift"'


@pytest.mark.parametrize("realm", ["", "auth/token", 'https://r"', "ftp://r.example"])
async def test_a_realm_that_is_none(opening: Opening, realm: str) -> None:
    with pytest.raises(ValueError, match="realm"):
        async with opening(realm=realm):
            pass


async def test_opaque_tokens_of_others_are_left_to_them(opened: TokenAuthenticator) -> None:
    assert await opened.authenticate(bearer("drift_cli_0123456789abcdef")) is None
    password = b64encode(b"alice:drift_cli_0123456789abcdef").decode()
    assert await opened.authenticate(authorized(f"Basic {password}")) is None


def test_a_proxy_that_is_trusted_says_how_clients_come(tmp_path: Path) -> None:
    settings = ('auth.chain=["token"]', 'server.trusted_proxies=["127.0.0.1"]')
    headers = {"host": "registry.example", "x-forwarded-proto": "https"}
    with Server(tmp_path / "trusting", *settings, workers=1) as server:
        answer = ask(server, "GET", "/v2/", headers=headers)
    assert answer.headers["www-authenticate"] == 'Bearer realm="https://registry.example/auth/token",service="drift"'
