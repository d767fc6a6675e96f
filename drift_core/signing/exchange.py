"""Bare signatures that clients bring and fetch, by the signatures extension of the Docker API.

Source: containers/image, ``docker/docker_client.go``, "X-Registry-Supports-Signatures".
"""

from drift_core.errors import Unsupported
from drift_core.model import Identity
from drift_core.protocols.signing import SupportsExchange, Verifier
from drift_core.signing.signing import Signing


class Exchange:
    """Keeps what is brought as an artifact of the format that exchanges signatures so; there is one at most."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self._evidence = signing.evidence

    @property
    def offered(self) -> bool:
        """Says whether any format exchanges signatures so."""
        return any(isinstance(one.driver, SupportsExchange) for one in self._evidence.formats)

    async def fetch(self, repository: str, digest: str) -> list[bytes]:
        """Returns the signatures of a manifest as they were brought, good or not; none of one that there is not.

        Raises:
            Unsupported: no format exchanges signatures so.
            DigestInvalid: it is no digest.
            Unavailable: they cannot be read now.
        """
        verifier, exchanging = await self._exchanging()
        artifacts = await self._evidence.artifacts(repository, digest, verifier)
        return [content for artifact in artifacts for content in exchanging.unwrap(artifact)]

    async def bring(self, repository: str, digest: str, content: bytes, identity: Identity) -> None:
        """Stores a signature of a manifest; one that is there already is not stored again.

        Raises:
            Unsupported: no format exchanges signatures so.
            ManifestUnknown: there is no such manifest.
            Denied: it is no signature; or a gate refuses.
        """
        _, exchanging = await self._exchanging()
        subject = await self._signing.subject(repository, digest)
        await self._signing.push(repository, exchanging.wrap(subject, content), None, identity)

    async def _exchanging(self) -> tuple[Verifier, SupportsExchange]:
        for one in self._evidence.formats:
            driver, _ = await one.current()
            if isinstance(driver, SupportsExchange):
                return driver, driver
        raise Unsupported("no format exchanges signatures so: enable signing, and install a plugin of one")
