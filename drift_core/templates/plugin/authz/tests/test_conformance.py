"""The driver keeps the rules of every authorizer."""

from collections.abc import AsyncIterator

import pytest
from drift_core.api import Authorizer, Identity, Scope
from drift_core.conformance import AuthorizerSuite, services

from ${module}.authorizer import open_authorizer
from ${module}.config import ${prefix}Config


class Test${prefix}(AuthorizerSuite):
    """What else is true of this authorizer belongs here, too."""

    @pytest.fixture
    async def authorizer(self) -> AsyncIterator[Authorizer]:
        """Knows one writer and one group of writers."""
        config = ${prefix}Config(writers=("ann", "builders"), public=("public/*",))
        async with open_authorizer(config, services("${name}")) as authorizer:
            yield authorizer

    @pytest.fixture
    def identities(self) -> list[Identity]:
        """Two who may push, and one who may not."""
        return [
            Identity("ann", "test"),
            Identity("ci", "test", groups=frozenset({"builders"})),
            Identity("eve", "test"),
        ]

    @pytest.fixture
    def scopes(self) -> list[Scope]:
        """What some of them may do."""
        return [Scope("repository", "app", "push"), Scope("repository", "app", "delete")]

    @pytest.fixture
    def public(self) -> list[Scope]:
        """Which of these anybody may do."""
        return []

    async def test_anybody_pulls_what_is_public(self, authorizer: Authorizer) -> None:
        """Anybody may pull what is public, and push nothing."""
        scopes = [Scope("repository", "public/base", action) for action in ("pull", "push")]
        verdicts = await authorizer.decide(None, scopes)
        assert [verdict.allowed for verdict in verdicts] == [True, None]
