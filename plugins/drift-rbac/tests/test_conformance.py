"""The kit's rules, on a policy with organizations, and those of every plugin."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from drift_rbac import plugin
from drift_rbac.authorizer import Rbac
from drift_rbac.config import RbacConfig
from drift_rbac.entities import Assignment, Organization, Settings, User

from drift_core.api import CATALOG, Authorizer, Identity, Scope, Services
from drift_core.conformance import AuthorizerSuite, ModuleSuite
from drift_core.conformance.suites.plugin import Use

ALICE, BOB, MALLORY = (Identity(name, "test") for name in ("alice", "bob", "mallory"))


class TestRbacDecides(AuthorizerSuite):
    @pytest.fixture
    async def authorizer(self, open_policy: Any) -> AsyncIterator[Rbac]:
        public = Settings(allow_public_repos=True)
        async with open_policy(
            Organization(id="acme", members=("alice",), repositories=("acme/www",), settings=public),
            User(id="alice", direct_roles=(Assignment("developer", "organization:acme"),)),
            User(id="bob", direct_roles=(Assignment("ci-bot", "repository:acme/app"),)),
            User(id="mallory", active=False),
            public=("library/*",),
        ) as rbac:
            yield rbac

    @pytest.fixture
    def identities(self) -> list[Identity]:
        return [ALICE, BOB, MALLORY]

    @pytest.fixture
    def scopes(self) -> list[Scope]:
        names = ("acme/app", "acme/www", "library/debian", "other/app")
        pulls = [Scope("repository", name, "pull") for name in names]
        return [*pulls, Scope("repository", "acme/app", "push"), Scope("organization", "acme", "read"), CATALOG]

    @pytest.fixture
    def public(self) -> list[Scope]:
        return [Scope("repository", name, "pull") for name in ("acme/www", "library/debian")]

    @pytest.fixture
    def deny(self, authorizer: Rbac) -> Callable[[Identity, Scope], Awaitable[None]]:
        """Takes away somebody's activity, the one thing that denies whatever a role allows."""

        async def disable(identity: Identity, _: Scope) -> None:
            def edit(policy: Any) -> Any:
                user = policy.directory.users[identity.name]
                return policy.directory.put(msgspec.structs.replace(user, active=False))

            await authorizer.editor.change(edit, None)

        return disable


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self, services: Services) -> Services:  # type: ignore[override]
        """Threads and connections of the database come when they are needed, and are no leak of the plugin."""
        await asyncio.gather(*(services.records.read(lambda _: time.sleep(0.1)) for _ in range(8)))
        return services

    @pytest.fixture
    def configs(self) -> tuple[RbacConfig, RbacConfig]:
        return RbacConfig(), RbacConfig(default_role="", admins=("root",), public=("library/*",), timezone="Asia/Tokyo")

    @pytest.fixture
    def use(self) -> Use:
        async def decide(authorizer: Authorizer) -> None:
            assert len(await authorizer.decide(ALICE, [CATALOG])) == 1

        return decide
