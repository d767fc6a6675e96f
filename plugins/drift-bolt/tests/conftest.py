"""A registry that serves Bolt, with logins, and an opened feature over a database of its own."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from drift_core.api import Records
from drift_core.conformance import open_records
from tests.http.described import Described
from tests.server import Server

from .client import DriftClient

PASSWORDS = {"ann": "ann's password", "bob": "bob's password", "root": "the password of root"}

SETTINGS = (
    "bolt.enabled=true",
    'auth.chain=["token", "basic"]',
    f"auth.basic.users={json.dumps([f'{name}:{password}' for name, password in PASSWORDS.items()])}",
    "rbac.enabled=true",
    'rbac.default_role="developer"',
    'rbac.admins=["root"]',
    'rbac.public=["open/*"]',
)
"""Everybody who is known may publish; only root may change what is others'."""


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("bolt", "drift_bolt.migrations", database_url) as records:
        yield records


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("bolt"), *SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def described(server: Server) -> Described:
    return Described.of(server.url, ("root", PASSWORDS["root"]))


@pytest.fixture
def ann(server: Server, described: Described) -> Iterator[DriftClient]:
    with DriftClient(server.url, described) as client:
        client.authenticate("ann", PASSWORDS["ann"])
        yield client


@pytest.fixture
def bob(server: Server, described: Described) -> Iterator[DriftClient]:
    with DriftClient(server.url, described) as client:
        client.authenticate("bob", PASSWORDS["bob"])
        yield client


@pytest.fixture
def stranger(server: Server, described: Described) -> Iterator[DriftClient]:
    with DriftClient(server.url, described) as client:
        yield client
