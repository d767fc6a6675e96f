"""The driver keeps the rules of every authenticator."""

from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
from drift_core.api import Authenticator, Credentials, Secret, StartError
from drift_core.conformance import AuthenticatorSuite, services

from ${module}.authenticator import entry, open_authenticator, parsed
from ${module}.config import ${prefix}Config


def sent(authorization: str) -> Credentials:
    """Returns what a request with this header says of its sender."""
    return Credentials(authorization, [("authorization", authorization)], "192.0.2.1")


def login(name: str, password: str) -> Credentials:
    """Returns what a client sends that knows a password."""
    return sent("Basic " + b64encode(f"{name}:{password}".encode()).decode())


class Test${prefix}(AuthenticatorSuite):
    """What else is true of this authenticator belongs here, too."""

    @pytest.fixture
    async def authenticator(self) -> AsyncIterator[Authenticator]:
        """Knows two users; few rounds, so that the tests are fast."""
        users = tuple(Secret(entry(name, f"password of {name}", rounds=1000)) for name in ("ann", "bob"))
        async with open_authenticator(${prefix}Config(users), services("${name}")) as authenticator:
            yield authenticator

    @pytest.fixture
    def good(self) -> tuple[Credentials, str]:
        """Credentials, and whose they are."""
        return login("ann", "password of ann"), "ann"

    @pytest.fixture
    def bad(self) -> list[Credentials]:
        """Credentials that must be refused."""
        return [login("ann", "password of bob"), login("ann", ""), login("eve", "password of ann")]

    @pytest.fixture
    def foreign(self) -> Credentials:
        """Credentials that another authenticator may know."""
        return sent("Bearer e30.e30.c2ln")

    @pytest.fixture
    def guesses(self) -> tuple[Credentials, Credentials]:
        """A wrong password of one who is known, and of one who is not."""
        return login("ann", "guess"), login("eve", "guess")


def test_a_bad_entry_is_named_by_its_place_alone() -> None:
    """Its content may be a secret."""
    with pytest.raises(StartError, match=r"users\[1\]") as raised:
        parsed([entry("ann", "x", rounds=1), "bob:topsecret"])
    assert "topsecret" not in str(raised.value)
