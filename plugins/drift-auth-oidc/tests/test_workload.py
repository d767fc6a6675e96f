"""CI jobs exchange their OpenID token for one that may push a little, for a short time."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx
import pytest
from drift_auth_oidc.config import WorkloadRule
from drift_auth_oidc.workloads import matching, parse_scope
from hypothesis import given
from hypothesis import strategies as st

from drift_core.api import Scope
from tests.server import Server

AUDIENCE = "https://registry.example.org"
JOB = {"aud": AUDIENCE, "sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "ref": "refs/heads/main"}


@pytest.fixture(scope="module")
def registry(provider: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    rules = (
        '{name = "ci-acme", claims = {repository = "acme/*", ref = "refs/heads/main"}, '
        'scopes = ["repository:acme/app:pull,push"]}, '
        '{name = "ci-list", claims = {groups = "release-*"}, scopes = ["repository:acme/*:pull"]}'
    )
    workload = f'[{{issuer = "{provider.issuer}", audience = "{AUDIENCE}", rules = [{rules}], max_seconds = 30}}]'
    folder: Path = tmp_path_factory.mktemp("workload")
    with Server(folder, "auth.mode=oidc", f"auth.oidc.workloads={workload}", workers=1) as server:
        yield server


def exchange(registry: Server, token: str, **more: str) -> httpx.Response:
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    return httpx.post(f"{registry.url}/auth/workload/token", data=fields | more)


def upload(registry: Server, repository: str, **options: Any) -> int:
    return httpx.post(f"{registry.url}/v2/{repository}/blobs/uploads/", **options).status_code


def test_a_job_pushes_what_its_rule_says_and_nothing_else(registry: Server, provider: Any) -> None:
    answer = exchange(registry, provider.sign(**JOB))
    assert answer.status_code == 200
    given = answer.json()
    assert given["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert given["token_type"] == "Bearer"
    assert given["expires_in"] == 30
    assert given["scope"] == "repository:acme/app:pull repository:acme/app:push"
    assert given["name"] == "workload:ci-acme"
    token = given["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert upload(registry, "acme/app", headers=bearer) == 202
    assert upload(registry, "acme/app", auth=("any", token)) == 202
    assert upload(registry, "acme/other", auth=("any", token)) == 403
    # The token may not, whoever has it: a client can ask for another one.
    assert upload(registry, "acme/other", headers=bearer) == 401
    assert httpx.delete(f"{registry.url}/v2/acme/app/manifests/v1", auth=("any", token)).status_code == 403


def test_a_claim_that_is_a_list_needs_one_that_fits(registry: Server, provider: Any) -> None:
    answer = exchange(registry, provider.sign(aud=AUDIENCE, groups=["x", "release-1"]))
    assert answer.json()["name"] == "workload:ci-list"


@pytest.mark.parametrize(
    "claims",
    [
        {"ref": "refs/heads/other"},
        {"repository": "evil/acme/app"},
        {"repository": "ACME/app"},
        {"repository": None},
        {"repository": {"acme/*": 1}},
        {"aud": "elsewhere"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"sub": ""},
    ],
)
def test_a_job_that_fits_no_rule_gets_nothing(registry: Server, provider: Any, claims: dict[str, Any]) -> None:
    answer = exchange(registry, provider.sign(**(JOB | {"groups": []} | claims)))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("kind", ["unsigned", "foreign"])
def test_a_token_of_nobody_gets_nothing(registry: Server, provider: Any, kind: str) -> None:
    assert exchange(registry, provider.sign(kind=kind, **JOB)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"subject_token": "no token"}, "invalid_grant"),
        ({"subject_token": "a" * 1_000_000}, "invalid_grant"),
    ],
)
def test_a_request_that_is_wrong_says_why(registry: Server, fields: dict[str, str], error: str) -> None:
    answer = exchange(registry, "x", **fields)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_the_job_s_own_token_is_not_taken(registry: Server, provider: Any) -> None:
    bearer = {"authorization": f"Bearer {provider.sign(**JOB)}"}
    assert upload(registry, "acme/app", headers=bearer) == 401


def test_without_the_issuer_known_keys_still_count(registry: Server, provider: Any) -> None:
    token = provider.sign(**JOB)
    assert exchange(registry, token).status_code == 200
    with provider.unreachable():
        assert exchange(registry, token).status_code == 200
        unknown = exchange(registry, provider.sign(header={"kid": "new"}, **JOB))
        assert (unknown.status_code, unknown.json()["error"]) == (503, "temporarily_unavailable")


names = st.sampled_from(["repository", "ref", "environment"])
words = st.sampled_from(["acme/app", "acme/api", "evil/app", "refs/heads/main", "prod", ""])
globs = st.sampled_from(["acme/*", "*/app", "refs/heads/*ain", "prod", "acme/a*"])


@given(st.lists(st.dictionaries(names, globs, min_size=1), min_size=1, max_size=4), st.dictionaries(names, words))
def test_a_rule_fits_where_all_its_claims_do(tables: list[dict[str, str]], claims: dict[str, str]) -> None:
    rules = [
        WorkloadRule(name=str(place), claims=table, scopes=("repository:a:pull",)) for place, table in enumerate(tables)
    ]
    expected = [
        rule
        for rule in rules
        if all(name in claims and fnmatchcase(claims[name], rule.claims[name]) for name in rule.claims)
    ]
    assert matching(rules, claims) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("release-[12]", "release-1", False),
        ("release-[12]", "release-[12]", True),
        ("[!a]*", "b", False),
        ("v?", "v1", False),
        ("v?*", "v?1", True),
        ("v*", "v1/x\n", True),
    ],
)
def test_only_the_star_is_special(pattern: str, value: str, fits: bool) -> None:
    rule = WorkloadRule(name="ci", claims={"ref": pattern}, scopes=("repository:a:pull",))
    assert (matching([rule], {"ref": value}) is rule) is fits


def test_a_scope_may_name_several_actions() -> None:
    assert parse_scope("repository:acme/app:pull,push") == (
        Scope("repository", "acme/app", "pull"),
        Scope("repository", "acme/app", "push"),
    )
    assert parse_scope("registry:catalog:*") == (Scope("registry", "catalog", "*"),)
