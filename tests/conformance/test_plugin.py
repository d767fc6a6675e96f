"""The plugin suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drift_core.api import Driver, Secret, Struct
from drift_core.conformance import PluginSuite
from drift_core.conformance.mutants.plugin import MUTANTS, Plugin
from drift_core.conformance.reference.plugin import Limits
from tests.conformance.mutation import failed_rules


class InMemory(PluginSuite):
    """Everything but the plugin, which is a mutant or the reference."""

    answer_seconds = 1.0
    settle_seconds = 0.5

    @pytest.fixture
    def module(self, plugin: type[Plugin]) -> str:
        return plugin.module

    @pytest.fixture
    def driver(self, plugin: type[Plugin]) -> Driver[Any]:
        return plugin.driver()

    @pytest.fixture
    async def configs(self, plugin: type[Plugin]) -> AsyncIterator[tuple[Struct, Struct]]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield plugin.config(port=port), plugin.config("localhost", None, Secret("s"), Limits(3))

    @pytest.fixture
    def unreachable(self, plugin: type[Plugin]) -> tuple[Struct, str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return plugin.config(port=port), f"127.0.0.1:{port}"


class Offered:
    """Gives a mutant, or the reference."""

    def __init__(self, kind: type[Plugin] = Plugin) -> None:
        self.kind = kind

    @pytest.fixture
    def plugin(self) -> type[Plugin]:
        return self.kind


class TestReference(InMemory):
    """The reference passes."""

    kind = Plugin
    plugin = Offered.plugin


def test_every_rule_can_fail() -> None:
    """Every rule has a mutant."""
    assert {rule.id for rule in PluginSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    """A mutant fails the rule that it breaks, and no other."""
    assert failed_rules(InMemory, Offered(MUTANTS[rule])) == {rule}
