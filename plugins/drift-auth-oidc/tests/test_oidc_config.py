"""Configurations that would let in the wrong people, or nobody, are refused at the start."""

import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drift_auth_oidc.config import OidcConfig
from drift_auth_oidc.opening import open_login

from drift_core.api import Records, Secret, StartError
from drift_core.conformance import open_records, services
from tests.tools import ROOT

PAGES = (ROOT / "docs/how-to/single-sign-on.md", Path(__file__).parent.parent / "README.md")
EXAMPLES = [text for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]

ISSUER = {"issuer": "https://login.example.org", "client_id": "drift"}
GITHUB = {"client_id": "a", "client_secret": "b"}
RULE = {"name": "ci", "claims": {"repository": "acme/*"}, "scopes": ["repository:acme/app:push"]}


def workload(**rule: Any) -> dict[str, Any]:
    return {"workloads": [{"issuer": "https://ci.example.org", "audience": "a", "rules": [RULE | rule]}]}


@pytest.fixture
async def records() -> AsyncIterator[Records]:
    async with open_records("auth-oidc", "drift_auth_oidc.migrations") as records:
        yield records


async def opened(records: Records, auth: dict[str, Any]) -> None:
    """Opens the driver with ``[auth.oidc]`` and ``[auth.oauth]``, as the core reads them."""
    table = auth.get("oidc", {}) | {name: auth[name] for name in auth if name != "oidc"}
    config = msgspec.convert(table, OidcConfig, dec_hook=lambda kind, value: kind(value) if kind is Secret else None)
    async with open_login(config, services("auth-oidc", records=records)):
        pass


@pytest.mark.parametrize(
    "auth",
    [
        {"oidc": ISSUER},
        {"oidc": ISSUER | {"issuer": "http://localhost:8080"}},
        {"oidc": {"providers": {"keycloak": ISSUER}}},
        {"oidc": workload()},
        {"oauth": {"enabled": True, "github": GITHUB | {"allowed_teams": ["acme/ops"]}}},
        {"oauth": {"enabled": True, "google": {"client_id": "a", "allowed_domains": ["example.org"]}}},
        {"oauth": {"enabled": True, "azure": {"client_id": "a", "tenant_id": "t"}}},
    ],
)
async def test_good_ones_open(records: Records, auth: dict[str, Any]) -> None:
    await opened(records, auth)


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({}, "names no provider"),
        ({"oauth": {"enabled": False, "azure": {"client_id": "a", "tenant_id": "t"}}}, "names no provider"),
        ({"oidc": {"issuer": "https://login.example.org"}}, "belong together"),
        ({"oidc": ISSUER | {"issuer": "http://login.example.org"}}, "https"),
        ({"oidc": ISSUER | {"issuer": "login.example.org"}}, "URL"),
        ({"oidc": ISSUER | {"scopes": ["profile"]}}, "openid"),
        ({"oidc": ISSUER | {"public_url": "https://r.example.org/path"}}, "no path"),
        ({"oidc": ISSUER | {"clock_skew_seconds": 86400}}, "clock_skew_seconds"),
        ({"oidc": ISSUER | {"isuer": "x"}}, "isuer"),
        ({"oidc": {"providers": {"token": ISSUER}}}, "cannot be the name"),
        ({"oidc": {"providers": {"a/b": ISSUER}}}, "cannot be the name"),
        ({"oidc": workload(claims={})}, "claims"),
        ({"oidc": workload(claims={"repository": "*"})}, "fit every token"),
        ({"oidc": workload(scopes=[])}, "scopes"),
        ({"oidc": workload(scopes=["acme/app:push"])}, "kind:name:action"),
        ({"oidc": workload(scopes=["repository:acme/app:push,"])}, "kind:name:action"),
        ({"oidc": workload(scopes=["repository:acme/app:,push"])}, "kind:name:action"),
        ({"oidc": workload(scopes=["repository:acme/app:push,,pull"])}, "kind:name:action"),
        ({"oidc": {"workloads": workload()["workloads"] * 2}}, "twice"),
        ({"oauth": {"enabled": True, "github": GITHUB}}, "anybody"),
        ({"oauth": {"enabled": True, "github": GITHUB | {"allowed_teams": ["ops"]}}}, "organization/team"),
        (
            {"oauth": {"enabled": True, "github": GITHUB | {"allowed_users": ["a"], "require_org_membership": True}}},
            "allowed_organizations",
        ),
        ({"oauth": {"enabled": True, "google": {"client_id": "a"}}}, "allowed_domains"),
        ({"oauth": {"enabled": True, "azure": {"client_id": "a", "tenant_id": "common"}}}, "names no tenant"),
    ],
)
async def test_bad_ones_say_why(records: Records, auth: dict[str, Any], message: str) -> None:
    with pytest.raises((StartError, msgspec.ValidationError), match=message):
        await opened(records, auth)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_the_examples_of_the_pages_open(records: Records, example: str) -> None:
    auth: dict[str, Any] = tomllib.loads(example)["auth"]
    await opened(records, {name: auth[name] for name in ("oidc", "oauth") if name in auth})


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4
