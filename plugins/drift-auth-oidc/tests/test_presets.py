"""Azure and Google, played by the OpenID provider with the claims that they make."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server

TENANT, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@pytest.fixture(scope="module")
def presets(provider: Any, lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    client = f'client_id = "{lab.CLIENT_ID}", client_secret = "{lab.CLIENT_SECRET}"'
    azure = (
        f'{{tenant_id = "{TENANT}", tenants = ["{OTHER}"], authority = "{provider.issuer}", {client}, '
        'group_mappings = [{group = "g-1", role = "admin"}], required_roles = ["Registry.User"]}'
    )
    google = (
        f'{{issuer = "{provider.issuer}", {client}, allowed_domains = ["Example.org"], '
        'domain_mappings = [{domain = "example.org", role = "read-only"}]}'
    )
    folder: Path = tmp_path_factory.mktemp("presets")
    settings = ("auth.mode=oidc", "auth.oauth.enabled=true", f"auth.oauth.azure={azure}", f"auth.oauth.google={google}")
    with Server(folder, *settings, workers=1) as server:
        yield server


@pytest.fixture
def member(presets: Server, lab: Any) -> Iterator[Any]:
    wanderer = lab.wanderer(presets.url)
    yield wanderer
    wanderer.client.close()


def azure_claims(issuer: str, tenant: str = TENANT, **more: Any) -> dict[str, Any]:
    usual = {"iss": f"{issuer}/{tenant}/v2.0", "tid": tenant, "groups": ["g-1"], "roles": ["Registry.User"]}
    return usual | {"preferred_username": "ann@contoso.com", "email": "ann@contoso.com"} | more


def log_in(provider: Any, member: Any, name: str, claims: dict[str, Any]) -> int:
    back = member.to_callback(f"/auth/{name}", "ann")
    # As they say it themselves: the other provider of the test would be noticed by its iss (RFC 9207).
    back = back.partition("&iss=")[0]
    with provider.broken("claims", **claims):
        return int(member.client.get(back).status_code)


@pytest.mark.parametrize("tenant", [TENANT, OTHER])
def test_people_of_each_tenant_log_in(provider: Any, member: Any, tenant: str) -> None:
    assert log_in(provider, member, "azure", azure_claims(provider.issuer, tenant)) == 303
    user = member.ask("GET", "/auth/user").json()
    assert (user["name"], user["roles"], user["provider"]) == ("azure:ann@contoso.com", ["admin"], "azure")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"tid": "33333333-3333-3333-3333-333333333333"}, 403),
        ({"tid": OTHER}, 403),
        ({"iss": "https://login.microsoftonline.com/x/v2.0"}, 401),
        ({"roles": ["Registry.Other"]}, 403),
        ({"roles": None}, 403),
        ({"groups": None, "_claim_names": {"groups": "src1"}}, 403),
    ],
)
def test_others_do_not(provider: Any, member: Any, claims: dict[str, Any], status: int) -> None:
    assert log_in(provider, member, "azure", azure_claims(provider.issuer) | claims) == status
    assert member.session() is None


def test_people_of_the_domain_log_in(provider: Any, member: Any) -> None:
    assert log_in(provider, member, "google", {"hd": "example.org"}) == 303
    user = member.ask("GET", "/auth/user").json()
    assert (user["name"], user["roles"]) == ("google:ann@example.org", ["read-only"])


@pytest.mark.parametrize(
    ("claims", "status"),
    [({}, 403), ({"hd": "example.com"}, 403), ({"hd": "example.org", "email_verified": False}, 401)],
)
def test_others_of_google_do_not(provider: Any, member: Any, claims: dict[str, Any], status: int) -> None:
    """A personal account may have a verified address of the domain, but not ``hd``."""
    assert log_in(provider, member, "google", claims) == status
    assert member.session() is None
