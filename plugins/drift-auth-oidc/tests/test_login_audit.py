"""An audit trail is told of every login, and of every one that failed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.plugins.installation import Installation
from tests.server import Server

AUDITOR = """
from contextlib import asynccontextmanager
import msgspec
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Witness:
    name = "witness"
    def __init__(self, log):
        self.log = log
    def record(self, db, event):
        self.log.warning("told", told=msgspec.to_builtins(event, enc_hook=str))
    async def note(self, event):
        self.record(None, event)

@asynccontextmanager
async def open_witness(config, services):
    yield Witness(services.log)

@hookimpl
def drift_features():
    return [Driver("witness", Config, open_witness)]
"""


@pytest.fixture
def audited(provider: Any, lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    installation = Installation(tmp_path / "site")
    installation.add("acme-witness", {"witness": "acme_witness"}, {"acme_witness": AUDITOR})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with Server(tmp_path / "server", *lab.settings(provider), workers=1) as server:
        yield server


def told(server: Server) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line["told"] for line in lines if line["event"] == "told"]


def test_logins_and_failures_are_told(audited: Server, lab: Any) -> None:
    person = lab.wanderer(audited.url)
    person.log_in()
    person.ask("POST", "/auth/logout", headers={"x-csrf-token": person.csrf()})
    # The provider still knows the first.
    other = lab.wanderer(audited.url)
    other.log_in("carl")
    other.ask("GET", "/auth/oidc/callback?state=x&code=x")
    for wanderer in (person, other):
        wanderer.client.close()
    job = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "x"}
    job["subject_token_type"] = "urn:ietf:params:oauth:token-type:jwt"
    httpx.post(f"{audited.url}/auth/workload/token", data=job)
    events = told(audited)
    assert [(event["type"], event["success"]) for event in events] == [
        ("Login", True),
        ("Logout", True),
        ("AuthenticationFailed", False),
        ("AuthenticationFailed", False),
        ("AuthenticationFailed", False),
    ]
    assert events[0]["identity"]["name"] == "oidc:ann"
    assert events[2]["parameters"] == {"provider": "oidc"}
    assert "groups" in events[2]["reason"]
