"""`drift plugins explain`: who is asked before an action, in which order, and who is told after it."""

import json
from pathlib import Path

import pytest

from tests.plugins.installation import Installation

PLUGIN = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Both:
    name = "NAME"
    gated = ("manifest.push", "blob.push")
    subscribed = ("manifest.push", "tag.delete")
    async def admit(self, change): ...
    async def on_event(self, event): ...

class Key:
    async def authenticate(self, credentials): ...
    def challenge(self, scopes): ...

@asynccontextmanager
async def open_it(config, services):
    yield Both()

@asynccontextmanager
async def open_key(config, services):
    yield Key()

@hookimpl
def drift_features():
    return [Driver("NAME", Config, open_it)]

@hookimpl
def drift_authn():
    return [Driver("key", Config, open_key)] if "NAME" == "alpha" else []
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path / "site")
    for name in ("beta", "alpha"):
        source = PLUGIN.replace("NAME", name)
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": source})
    return installation


def explain(installation: Installation, action: str, *options: str) -> list[tuple[str, str, str]]:
    """Returns the steps of a server without the console, which is told of every change."""
    done = installation.drift("plugins", "explain", action, "--json", "--set", "ui.enabled=false", *options)
    assert done.returncode == 0, done.stderr
    return [(step["step"], step["plugin"], step["failure"]) for step in json.loads(done.stdout)]


def test_shows_who_is_asked_and_told_in_order(installation: Installation) -> None:
    assert explain(installation, "manifest.push", "--set", "auth.mode=key") == [
        ("authn", "alpha", "refused"),
        ("gate", "alpha", "refused"),
        ("gate", "beta", "refused"),
        ("subscriber", "alpha", "told again"),
        ("subscriber", "beta", "told again"),
    ]
    assert explain(installation, "blob.push") == [("gate", "alpha", "refused"), ("gate", "beta", "refused")]
    assert explain(installation, "tag.delete", "--set", 'plugins.disabled=["alpha"]') == [
        ("subscriber", "beta", "told again")
    ]


def test_shows_a_table_or_says_that_nobody_is_asked(installation: Installation, tmp_path: Path) -> None:
    shown = installation.drift("plugins", "explain", "manifest.push").stdout
    assert shown.index("alpha") < shown.index("beta")
    nobody = installation.drift("plugins", "explain", "manifest.pull", "--set", f"storage.path={tmp_path / 'data'}")
    assert "no plugin is asked or told" in nobody.stdout
    assert not (tmp_path / "data").exists()


def test_needs_no_storage_and_no_transport(installation: Installation) -> None:
    done = installation.drift("plugins", "explain", "blob.push", DRIFT_PLUGINS="alpha")
    assert (done.returncode, "alpha" in done.stdout, "beta" in done.stdout) == (0, True, False)


def test_an_unknown_action_names_those_that_there_are(installation: Installation) -> None:
    done = installation.drift("plugins", "explain", "manifest.pusj")
    assert done.returncode == 2
    assert "manifest.push" in done.stderr
