"""The kit's rules of authenticators and of plugins."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from drift_auth_basic import plugin
from drift_auth_basic.authenticator import BasicAuthenticator
from drift_auth_basic.config import BasicConfig

from drift_core.api import Credentials, Identity, Records, Secret, Services
from drift_core.conformance import AuthenticatorSuite, ModuleSuite, services
from drift_core.conformance.suites.plugin import Use

Sent = Callable[..., Credentials]

NO_LIMITS = {"failures_per_user": 0, "failures_per_address": 0}
"""The kit is not a client that guesses: it repeats what it does until it is sure."""


class TestBasic(AuthenticatorSuite):
    """With what is remembered, and with a hash for each request."""

    @pytest.fixture(params=[300.0, 0.0], ids=["remembered", "each"])
    async def authenticator(self, request: pytest.FixtureRequest, open_with: Any) -> AsyncIterator[BasicAuthenticator]:
        config = BasicConfig(users=(Secret("ben:battery staple"),), remember_seconds=request.param, **NO_LIMITS)
        async with open_with(config) as basic:
            await basic.users.add("ann", "correct horse")
            yield basic

    @pytest.fixture
    def good(self, sent: Sent) -> tuple[Credentials, str]:
        return sent("ann", "correct horse"), "ann"

    @pytest.fixture
    def bad(self, sent: Sent) -> list[Credentials]:
        return [sent("ann", "Tr0ub4dor"), sent("nobody", "correct horse"), sent("ben", "correct horse"), sent("", "x")]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return Credentials("Bearer e30.e30.e30", (("authorization", "Bearer e30.e30.e30"),), "192.0.2.1")

    @pytest.fixture
    def guesses(self, sent: Sent) -> tuple[Credentials, Credentials]:
        return sent("ann", "Tr0ub4dor"), sent("nobody", "Tr0ub4dor")

    @pytest.fixture
    def revoke(self, authenticator: BasicAuthenticator) -> Callable[[], Awaitable[None]]:
        async def disable() -> None:
            assert await authenticator.users.set_disabled("ann", disabled=True)
            await asyncio.sleep(1)

        return disable


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self, records: Records) -> Services:
        # The database opens its threads and files when it first needs them, which are not the plugin's.
        await asyncio.gather(*(records.read(lambda _: time.sleep(0.1)) for _ in range(8)))
        return services("auth-basic", records=records)

    @pytest.fixture
    def configs(self, tmp_path: Any) -> tuple[BasicConfig, BasicConfig]:
        file = tmp_path / "htpasswd"
        file.write_text("# nobody yet\n")
        full = BasicConfig(htpasswd_files=(str(file),), remember_seconds=0, failure_window_seconds=1, **NO_LIMITS)
        return BasicConfig(users=(Secret("ann:correct horse"),)), full

    @pytest.fixture
    def use(self, sent: Sent) -> Use:
        async def log_in(basic: BasicAuthenticator) -> None:
            answers = await asyncio.gather(
                *(basic.authenticate(sent("ann", word)) for word in ("correct horse", "Tr0ub4dor")),
                return_exceptions=True,
            )
            assert not isinstance(answers[1], Identity)

        return log_in
