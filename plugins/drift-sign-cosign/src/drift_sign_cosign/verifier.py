"""Judges artifacts for the core by what a configuration trusts; other formats with the same trust do so, too."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial

from drift_core.api import Descriptor, Judgement, KeyInfo, Services, Signature
from drift_sign_cosign.bundle import BUNDLE
from drift_sign_cosign.config import SigningConfig
from drift_sign_cosign.legacy import ATTESTATION, PAYLOAD
from drift_sign_cosign.trust import Trust, load_trust
from drift_sign_cosign.verification import claims, judge

Judge = Callable[[str, Descriptor, Signature, float], Sequence[Judgement]]
"""Judges an artifact of a subject in a repository, at a time in seconds since the epoch; blocks meanwhile."""


class TrustVerifier:
    """A verifier of one format; the clock is in seconds since the epoch."""

    media_types: Collection[str] = (PAYLOAD, ATTESTATION, BUNDLE)

    def __init__(
        self,
        config: SigningConfig,
        trust: Trust,
        claims: Callable[[str, bytes], bool],
        judge: Judge,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.files: Sequence[str] = config.trusted_files()
        self._trust = trust
        self._claims = claims
        self._judge = judge
        self._clock = clock

    def keys(self) -> Sequence[KeyInfo]:
        """See `Verifier`."""
        return self._trust.infos()

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """See `Verifier`."""
        return self._claims(media_type, manifest)

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """See `Verifier`."""
        # A large artifact takes some tens of milliseconds, in which others would wait.
        return await asyncio.to_thread(self._judge, repository, subject, signature, self._clock())


async def load(config: SigningConfig, services: Services) -> Trust:
    """Returns what a configuration trusts, and logs it. Raises `StartError`."""
    trust = await asyncio.to_thread(load_trust, config)
    keys, stores = [key.key_id for key in trust.keys], list(trust.stores)
    services.log.info("trusted keys are loaded", keys=keys, trust_stores=stores)
    return trust


@asynccontextmanager
async def open_verifier(config: SigningConfig, services: Services) -> AsyncIterator[TrustVerifier]:
    """Opens the verifier of cosign's signatures. Raises `StartError`."""
    trust = await load(config, services)
    yield TrustVerifier(config, trust, claims, partial(judge, trust, config))
