"""Signs for the core by the OpenPGP keys of a configuration."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from pysequoia import sign

from drift_core.api import Denied, Descriptor, KeyInfo, Services, Signature
from drift_sign_simple.artifact import write_artifact
from drift_sign_simple.config import SigningConfig
from drift_sign_simple.keys import SigningKey, load_signing_keys
from drift_sign_simple.message import read_message
from drift_sign_simple.openpgp import guarded
from drift_sign_simple.payload import reference_of, write_payload
from drift_sign_simple.refusal import Refused


class SimpleSigner:
    """A signer with keys; the clock is in seconds since the epoch."""

    def __init__(
        self, config: SigningConfig, keys: Sequence[SigningKey], clock: Callable[[], float] = time.time
    ) -> None:
        self.files: Sequence[str] = [entry.key_path for entry in config.simple.signing_keys]
        self._config = config
        self._keys = {key.key_id: key for key in keys}
        self._clock = clock

    def keys(self) -> Sequence[KeyInfo]:
        """See `Signer`."""
        return [key.info for key in self._keys.values()]

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        """See `Signer`; the annotations are optional members of what is signed."""
        del tagged
        try:
            # RSA takes some milliseconds, in which others would wait.
            return [await asyncio.to_thread(self._signed, repository, subject, key_id, annotations, self._clock())]
        except Refused as refusal:
            raise Denied(str(refusal), key_id=key_id) from None

    def _signed(
        self, repository: str, subject: Descriptor, key_id: str, annotations: Mapping[str, str], now: float
    ) -> Signature:
        """Returns the artifact of a signature. Raises `Refused`."""
        key = self._keys.get(key_id)
        if key is None:
            raise Refused("there is no such OpenPGP key")
        if key.expires_at is not None and key.expires_at <= now:
            raise Refused("the key has expired")
        payload = write_payload(reference_of(self._config, repository), subject.digest, annotations, now)
        content = guarded(lambda: sign(key.signer, payload, armor=False), "the key does not sign")
        # Annotations may be larger than what anybody reads.
        read_message(content)
        return write_artifact(subject, content)


@asynccontextmanager
async def open_signer(config: SigningConfig, services: Services) -> AsyncIterator[SimpleSigner]:
    """Opens the signer. Raises `StartError`."""
    keys = await asyncio.to_thread(load_signing_keys, config.simple)
    services.log.info("OpenPGP keys for signing are loaded", keys=[key.key_id for key in keys])
    yield SimpleSigner(config, keys)
