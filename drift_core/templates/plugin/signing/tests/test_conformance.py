"""The driver keeps the rules of every signature format."""

from collections.abc import AsyncIterator

import pytest
from drift_core.api import Descriptor, Secret, Signature, Signer, Verifier
from drift_core.conformance import SigningSuite, services
from drift_core.conformance.suites.signing import SUBJECT, signed

from ${module}.config import Key, ${prefix}Config
from ${module}.driver import open_signing

RELEASE = Key("release", Secret("a secret of 32 bytes or more......"))
ROGUE = Key("rogue", Secret("another, which nobody trusts......."))


class Test${prefix}(SigningSuite):
    """What else is true of this format belongs here, too: the artifacts of its own clients, say."""

    @pytest.fixture
    async def signer(self) -> AsyncIterator[Signer]:
        """Has both keys."""
        async with open_signing(${prefix}Config((RELEASE, ROGUE)), services("${name}")) as signer:
            yield signer

    @pytest.fixture
    async def verifier(self) -> AsyncIterator[Verifier]:
        """Trusts one of them."""
        async with open_signing(${prefix}Config((RELEASE,)), services("${name}")) as verifier:
            yield verifier

    @pytest.fixture
    def key_id(self) -> str:
        """The key that is trusted."""
        return RELEASE.id

    @pytest.fixture
    def other_key_id(self) -> str:
        """The key that is not."""
        return ROGUE.id

    @pytest.fixture
    async def expired(self) -> tuple[Descriptor, Signature]:
        """A signature that was good once."""
        config = ${prefix}Config((RELEASE,), max_signature_age_hours=-1)
        async with open_signing(config, services("${name}")) as signer:
            return SUBJECT, await signed(signer, RELEASE.id)
