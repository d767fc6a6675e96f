"""Challenges that a registry could steal a password with, or that lead nowhere."""

from collections.abc import AsyncIterator

import httpx
import pytest
from drift_transfer.login import Login
from drift_transfer.source import SourceError


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def challenged(url: str, *challenges: str) -> httpx.Response:
    headers = [("www-authenticate", challenge) for challenge in challenges]
    return httpx.Response(401, headers=headers, request=httpx.Request("GET", url))


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://tokens.example.com/token",service="registry"',
        'Bearer realm="file:///etc/passwd"',
        "Bearer",
        'Negotiate realm="x"',
        "",
    ],
)
async def test_a_password_is_not_sent_in_the_clear_or_nowhere(client: httpx.AsyncClient, challenge: str) -> None:
    login = Login(client, "bob", "secret")
    with pytest.raises(SourceError) as raised:
        await login.answer("app", challenged("https://registry.example.com/v2/", challenge))
    assert "secret" not in str(raised.value)
    assert login.headers("app") == {}


async def test_a_password_is_for_the_repository_that_asked(client: httpx.AsyncClient) -> None:
    login = Login(client, "bob", "secret")
    await login.answer("app", challenged("https://registry.example.com/v2/", "Negotiate", 'Basic realm="registry"'))
    assert login.headers("app")["authorization"] == "Basic Ym9iOnNlY3JldA=="
    assert login.headers("other") == {}
