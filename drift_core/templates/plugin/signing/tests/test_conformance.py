"""The driver keeps the rules of every signature format."""

from collections.abc import AsyncIterator

import pytest
from drift_core.api import Secret, Signer, Verifier
from drift_core.conformance import SigningSuite, services
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY, Sample, sign

from ${module}.config import Key, ${prefix}Config
from ${module}.driver import open_signing

OURS = Key("release", Secret("a secret of 32 bytes or more......"))
THEIRS = Key("release", Secret("another, which nobody trusts......"))


class Test${prefix}(SigningSuite):
    """What else is true of this format belongs here, too: as ``samples`` the artifacts of its own clients, say."""

    @pytest.fixture
    async def signer(self) -> AsyncIterator[Signer]:
        """Has the key that is trusted."""
        async with open_signing(${prefix}Config((OURS,)), services("${name}")) as signer:
            yield signer

    @pytest.fixture
    async def stranger(self) -> AsyncIterator[Signer]:
        """Has another of the same name."""
        async with open_signing(${prefix}Config((THEIRS,)), services("${name}")) as signer:
            yield signer

    @pytest.fixture
    async def verifier(self) -> AsyncIterator[Verifier]:
        """Trusts the one."""
        async with open_signing(${prefix}Config((OURS,)), services("${name}")) as verifier:
            yield verifier

    @pytest.fixture
    def key_id(self) -> str:
        """The key that signs."""
        return OURS.id

    @pytest.fixture
    async def expired(self) -> Sample:
        """A signature that was good once."""
        config = ${prefix}Config((OURS,), max_signature_age_hours=-1)
        async with open_signing(config, services("${name}")) as signer:
            (signature,) = await sign(signer, OURS.id)
            return REPOSITORY, IMAGE, signature
