"""The signer: what `Signer` promises, by keys that were loaded from files."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from drift_core.api import Denied, Descriptor, KeyInfo, Services, Signature, Signer
from drift_sign_notation import cose, jws, manifest, payload
from drift_sign_notation.config import SigningConfig
from drift_sign_notation.envelope import Attributes
from drift_sign_notation.keys import SigningKey, load_signing_keys

HOUR: Final = 3600.0
WRITERS: Final = {"jws": (jws.MEDIA_TYPE, jws.write), "cose": (cose.MEDIA_TYPE, cose.write)}

RESERVED: Final = "io.cncf.notary"
"""How the names of annotations begin that notation keeps to itself."""


class NotationSigner:
    """Signs by ``keys``, in ``envelope`` jws or cose; ``files`` are what was read.

    A signature is good for ``lifetime`` seconds, None as long as its certificates are. ``clock`` tells seconds since
    the epoch.
    """

    def __init__(
        self,
        keys: Mapping[str, SigningKey],
        envelope: str = "jws",
        lifetime: float | None = None,
        clock: Callable[[], float] = time.time,
        files: Sequence[str] = (),
    ) -> None:
        self._keys = keys
        self._media_type, self._write = WRITERS[envelope]
        self._lifetime = lifetime
        self._clock = clock
        self.files = files

    def keys(self) -> Sequence[KeyInfo]:
        """See `Signer.keys`; a key expires with the first certificate of its chain that does."""
        return [key.described() for key in self._keys.values()]

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        """See `Signer.sign`; of the repository nothing is signed, so that a copy stays signed.

        Raises `Denied` where there is no such key, where a certificate of it is not valid now, or for an annotation
        whose name is reserved; or where there are so many that nobody would read the signature.
        """
        del repository, tagged
        key = self._keys.get(key_id)
        if key is None:
            raise Denied("there is no such key for this format", key_id=key_id)
        if not key.is_valid(self._clock()):
            raise Denied("a certificate of the key is not valid now", key_id=key_id)
        if any(name.startswith(RESERVED) for name in annotations):
            raise Denied(f"annotations that begin with {RESERVED} are reserved")
        # In a thread: by an RSA key of 4096 bits it takes as long as hundreds of other requests.
        return [await asyncio.to_thread(self._signature, subject, annotations, key)]

    def _signature(self, subject: Descriptor, annotations: Mapping[str, str], key: SigningKey) -> Signature:
        now = self._clock()
        expires_at = None if self._lifetime is None else now + self._lifetime
        envelope = self._write(key, payload.write(subject, annotations), Attributes(now, expires_at))
        if len(envelope) > manifest.LARGEST_ENVELOPE:
            raise Denied("with these annotations the signature is larger than what is read", key_id=key.key_id)
        return manifest.write(subject, self._media_type, envelope, key.chain, now)


@asynccontextmanager
async def open_signer(config: SigningConfig, services: Services) -> AsyncIterator[NotationSigner]:
    """Opens the signer. Raises `StartError` where a key is not one by which a signature could be good."""
    keys = await asyncio.to_thread(load_signing_keys, config.signing_keys)
    services.log.info("signing keys were read", keys={key.key_id: key.algorithm.name for key in keys.values()})
    hours = config.notation.lifetime_hours
    lifetime = None if hours is None else hours * HOUR
    yield NotationSigner(keys, config.notation.envelope, lifetime, files=config.private_files())


_: type[Signer] = NotationSigner
