"""The verifier: what `Verifier` promises, by trust stores and policies that were loaded from files."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from drift_core.api import Descriptor, Judgement, KeyInfo, Services, Signature, Verifier
from drift_sign_notation import cose, jws
from drift_sign_notation.config import SigningConfig
from drift_sign_notation.files import reading
from drift_sign_notation.manifest import SIGNATURE, is_signature
from drift_sign_notation.policies import default_policies, read_policies
from drift_sign_notation.revocation import read_revoked
from drift_sign_notation.trust import load_distrusted, load_trust_stores
from drift_sign_notation.verification import Judge


class NotationVerifier:
    """Asks ``judge``; ``keys`` are what is trusted, ``files`` what was read."""

    media_types: Collection[str] = (SIGNATURE, jws.MEDIA_TYPE, cose.MEDIA_TYPE)

    def __init__(self, judge: Judge, keys: Sequence[KeyInfo], files: Sequence[str]) -> None:
        self._judge = judge
        self._keys = keys
        self.files = files

    def keys(self) -> Sequence[KeyInfo]:
        """See `Verifier.keys`; each is named by its trust store and its subject as in RFC 4514."""
        return self._keys

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """See `Verifier.claims`."""
        return is_signature(media_type, manifest)

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """See `Verifier.judge`."""
        # In a thread: an envelope may be large, and RSA is slow.
        return await asyncio.to_thread(self._judge.judge, repository, subject, signature)


def load_verifier(config: SigningConfig, clock: Callable[[], float] = time.time) -> NotationVerifier:
    """Returns the verifier of a configuration; blocks while files are read. Raises `StartError`.

    ``clock`` tells seconds since the epoch.
    """
    files = list(config.trusted_files())
    stores = load_trust_stores(config)
    policies = default_policies(stores)
    path = config.notation.trust_policy
    if path is not None:
        files.append(path)
        with reading(path) as content:
            policies = read_policies(content, stores, config.registry_name)
    judge = Judge(policies, read_revoked(config.notation.revoked), clock, load_distrusted(config))
    return NotationVerifier(judge, [key for store in stores.values() for key in store.keys], files)


@asynccontextmanager
async def open_verifier(config: SigningConfig, services: Services) -> AsyncIterator[NotationVerifier]:
    """Opens the verifier. Raises `StartError` where a file cannot be used."""
    verifier = await asyncio.to_thread(load_verifier, config)
    services.log.info("trust stores were read", stores=[store.name for store in config.trust_stores])
    yield verifier


_: type[Verifier] = NotationVerifier
