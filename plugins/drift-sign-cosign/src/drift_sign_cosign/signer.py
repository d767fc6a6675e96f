"""Signs for the core by the keys of a configuration; other formats with the same keys do so, too."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from drift_core.api import Denied, Descriptor, KeyInfo, Services, Signature
from drift_sign_cosign import bundle, legacy
from drift_sign_cosign.algorithms import sign
from drift_sign_cosign.config import SigningConfig
from drift_sign_cosign.dsse import IN_TOTO, pae
from drift_sign_cosign.keys import Key, load_signing_keys, usable
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.statement import write_statement

Make = Callable[[Key, str, Descriptor, Mapping[str, str], Mapping[str, bytes], float], Sequence[Signature]]
"""Signs with a key, in a repository, a subject with annotations, beside what is tagged, at a time since the epoch.

It blocks for some milliseconds, and raises `Refused`.
"""


class KeySigner:
    """A signer of one format, who has read ``files``; the clock is in seconds since the epoch."""

    def __init__(
        self, files: Sequence[str], keys: Sequence[Key], make: Make, clock: Callable[[], float] = time.time
    ) -> None:
        self.files = files
        self._keys = keys
        self._make = make
        self._clock = clock

    def keys(self) -> Sequence[KeyInfo]:
        """See `Signer`."""
        return [key.info for key in self._keys]

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        """See `Signer`."""
        now = self._clock()
        try:
            key = usable(self._keys, key_id, now)
            # RSA takes some milliseconds, in which others would wait.
            return await asyncio.to_thread(self._make, key, repository, subject, annotations, tagged, now)
        except Refused as refusal:
            raise Denied(str(refusal), key_id=key_id) from None


def make(
    config: SigningConfig,
    key: Key,
    repository: str,
    subject: Descriptor,
    annotations: Mapping[str, str],
    tagged: Mapping[str, bytes],
    now: float,
) -> Sequence[Signature]:
    """Returns an artifact for each layout, all by the same key; see `Make`.

    The annotations are those of ``cosign sign -a``; ``timestamp`` is the signer's own. The older layout is left out
    for a subject whose digest is longer than a tag, such as one by sha512.

    Raises:
        Refused: what has the tag of the older layout is no manifest of signatures, or no layout fits.
    """
    made: list[Signature] = []
    tag = legacy.tag_of(subject.digest)
    if "legacy" in config.cosign.layouts and tag is not None:
        payload = legacy.write_payload(reference_of(config, repository), subject.digest, annotations, now)
        made.append(legacy.append(tagged.get(tag), tag, payload, sign(key.private, payload), key.chain))
    if "bundle" in config.cosign.layouts:
        statement = write_statement(subject, annotations, now)
        signature = sign(key.private, pae(IN_TOTO, statement))
        made.append(bundle.write_artifact(subject, statement, signature, key.signs_as, now))
    if not made:
        raise Refused("the older layout of cosign has no place for a digest of this length")
    return made


def reference_of(config: SigningConfig, repository: str) -> str:
    """Returns how a signature names a repository: with the registry's public name, where it has one."""
    return repository if config.registry_name is None else f"{config.registry_name}/{repository}"


async def load(config: SigningConfig, services: Services) -> Sequence[Key]:
    """Returns the keys of a configuration, and logs their names. Raises `StartError`."""
    keys = await asyncio.to_thread(load_signing_keys, config.signing_keys)
    services.log.info("signing keys are loaded", keys=[key.key_id for key in keys])
    return keys


@asynccontextmanager
async def open_signer(config: SigningConfig, services: Services) -> AsyncIterator[KeySigner]:
    """Opens the signer in the layouts of cosign. Raises `StartError`."""
    yield KeySigner(config.private_files(), await load(config, services), partial(make, config))
