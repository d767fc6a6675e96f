"""Opens the authenticator for the tests of this plugin, with a database of its own, and keeps what it tells."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import bcrypt
import pytest
from drift_auth_basic.authenticator import BasicAuthenticator, open_basic
from drift_auth_basic.config import BasicConfig

from drift_core.api import Credentials, Records, ServerSettings
from drift_core.conformance import MemoryAuditor, Trail, open_records, services

Open = Callable[[BasicConfig], AbstractAsyncContextManager[BasicAuthenticator]]


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("auth-basic", "drift_auth_basic.migrations", database_url) as records:
        yield records


@pytest.fixture
def kept() -> MemoryAuditor:
    return MemoryAuditor()


@pytest.fixture
def open_with(records: Records, kept: MemoryAuditor) -> Open:
    """Opens it as one worker does; beside those that are open already, as another one."""

    def opened(config: BasicConfig) -> AbstractAsyncContextManager[BasicAuthenticator]:
        return open_basic(config, services("auth-basic", records=records, audit=Trail([kept])))

    return opened


@pytest.fixture
def open_on(records: Records) -> Callable[[str, BasicConfig], AbstractAsyncContextManager[BasicAuthenticator]]:
    """Opens it for a server on an address."""

    def opened(address: str, config: BasicConfig) -> AbstractAsyncContextManager[BasicAuthenticator]:
        return open_basic(config, services("auth-basic", ServerSettings(address, 100, 5.0), records))

    return opened


@pytest.fixture
def sent() -> Callable[..., Credentials]:
    """Makes what a request says that has a name and a password."""

    def made(name: str, password: str, address: str = "192.0.2.1") -> Credentials:
        value = "Basic " + b64encode(f"{name}:{password}".encode()).decode()
        return Credentials(value, (("authorization", value),), address)

    return made


def _bcrypt(password: str, cost: int, prefix: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", f"${prefix}$")


@pytest.fixture
def bcrypt_of() -> Callable[..., str]:
    """Makes a cheap hash, as `htpasswd -B` does a dear one."""
    return partial(_bcrypt, cost=4, prefix="2y")
