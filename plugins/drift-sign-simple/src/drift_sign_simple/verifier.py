"""Judges artifacts for the core, and gives its clients the bare messages that they know."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from drift_core.api import Denied, Descriptor, Judgement, KeyInfo, Services, Signature
from drift_sign_simple.artifact import FORMAT, is_ours, read_artifact, write_artifact
from drift_sign_simple.config import SigningConfig
from drift_sign_simple.keys import load_trust
from drift_sign_simple.message import read_message
from drift_sign_simple.payload import check_payload
from drift_sign_simple.refusal import Refused
from drift_sign_simple.trust import Trust


class SimpleVerifier:
    """A verifier with a `Trust`; the clock is in seconds since the epoch."""

    media_types: Collection[str] = (FORMAT,)

    def __init__(self, config: SigningConfig, trust: Trust, clock: Callable[[], float] = time.time) -> None:
        self.files: Sequence[str] = [entry.key_path for entry in config.simple.verification_keys]
        self._config = config
        self._trust = trust
        self._clock = clock

    def keys(self) -> Sequence[KeyInfo]:
        """See `Verifier`."""
        return self._trust.infos()

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """See `Verifier`."""
        return is_ours(media_type, manifest)

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """See `Verifier`."""
        if not self.claims(signature.media_type, signature.manifest):
            return []
        # It takes about a millisecond, in which others would wait.
        return [await asyncio.to_thread(self._judged, repository, subject, signature, self._clock())]

    def wrap(self, subject: Descriptor, content: bytes) -> Signature:
        """See `SupportsExchange`; what could never count is not stored."""
        try:
            read_message(content)
        except Refused as refusal:
            raise Denied(f"it is no signature of this format: {refusal}") from None
        return write_artifact(subject, content)

    def unwrap(self, signature: Signature) -> Sequence[bytes]:
        """See `SupportsExchange`."""
        if not self.claims(signature.media_type, signature.manifest):
            return []
        try:
            return [read_artifact(signature)]
        except Refused:
            return []

    def _judged(self, repository: str, subject: Descriptor, signature: Signature, now: float) -> Judgement:
        try:
            message = read_message(read_artifact(signature, subject))
            proven = self._trust.prove(message, now)
        except Refused as refusal:
            return Judgement(good=False, reason=str(refusal), valid_until=refusal.until)
        try:
            check_payload(message.payload, subject, repository, self._config)
        except Refused as refusal:
            return replace(proven, good=False, reason=str(refusal))
        return proven


@asynccontextmanager
async def open_verifier(config: SigningConfig, services: Services) -> AsyncIterator[SimpleVerifier]:
    """Opens the verifier. Raises `StartError`."""
    trust = await asyncio.to_thread(load_trust, config.simple)
    services.log.info("trusted OpenPGP keys are loaded", keys=[key.name for key in trust.infos()])
    yield SimpleVerifier(config, trust)
