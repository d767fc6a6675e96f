"""Reads the manifest of a signature and the blobs that it names, and writes such a manifest."""

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from msgspec import Struct

from drift_core.api import Descriptor, Digest, DigestInvalid
from drift_sign_cosign.encoding import as_object, member, read_json
from drift_sign_cosign.refusal import Refused

MANIFEST = "application/vnd.oci.image.manifest.v1+json"

LARGEST_MANIFEST = 1 << 20
"""Most bytes of a manifest of signatures: nobody else runs while it is parsed."""

MOST_SIGNATURES = 100
"""How many signatures of one manifest are looked at; notation-go has the same limit."""

LARGEST_BLOB = 4 << 20
"""Most bytes of a bundle or an envelope: a signature has about 10 KiB, an attestation may list a whole image."""

MOST_BYTES = 16 << 20
"""Most bytes that are read of one artifact, a blob as often as it is named."""


class Sealed(Struct, frozen=True):
    """What somebody has signed, before any of it is believed.

    The ``signature`` is one of ``message``, within which is ``payload``. ``certificates`` are those that came along,
    the leaf first; none where a bare key has signed. ``bundle`` has the bytes of a bundle with an entry of a
    transparency log, else None.
    """

    payload: bytes
    message: bytes
    signature: bytes
    certificates: tuple[x509.Certificate, ...] = ()
    bundle: bytes | None = None


class Blobs:
    """The blobs of an artifact, found by their digests; those that are too large are not even hashed."""

    def __init__(self, blobs: Sequence[bytes]) -> None:
        self._blobs = [blob for blob in blobs if len(blob) <= LARGEST_BLOB]
        self._found: dict[str, dict[str, bytes]] = {}
        self._left = MOST_BYTES

    def read(self, descriptor: Any, largest: int = LARGEST_BLOB) -> bytes:
        """Returns the blob that a descriptor in a manifest names, of at most as many bytes.

        Raises:
            Refused: it is no descriptor, or the blob is missing, too large, or not what the descriptor says; or too
                much was read before.
        """
        size = member(descriptor, "size", int)
        if size > largest:
            raise Refused(f"a blob has more than {largest} bytes")
        digest = read_digest(descriptor)
        blob = self._by(digest.algorithm).get(digest)
        if blob is None or len(blob) != size:
            raise Refused("a blob is missing, or not what the manifest says")
        self._left -= size
        if self._left < 0:
            raise Refused(f"the blobs have more than {MOST_BYTES} bytes")
        return blob

    def _by(self, algorithm: str) -> dict[str, bytes]:
        if algorithm not in self._found:
            self._found[algorithm] = {Digest.of(blob, algorithm): blob for blob in self._blobs}
        return self._found[algorithm]


def read_manifest(content: bytes, media_type: str = MANIFEST) -> dict[str, Any]:
    """Returns an image manifest; an empty object for what is none, or too large to be that of signatures."""
    if media_type != MANIFEST or len(content) > LARGEST_MANIFEST:
        return {}
    try:
        return as_object(read_json(content, "manifest"))
    except Refused:
        return {}


def media_type_of(node: Any) -> str | None:
    """Returns the media type of a descriptor, or None where ``node`` is none."""
    found = as_object(node).get("mediaType")
    return found if isinstance(found, str) else None


def read_digest(descriptor: Any) -> Digest:
    """Returns the digest in a descriptor of a blob. Raises `Refused`."""
    try:
        return Digest.parse(member(descriptor, "digest", str))
    except DigestInvalid:
        raise Refused("the digest of a blob is none") from None


def check_subject(manifest: dict[str, Any], subject: Descriptor) -> None:
    """Raises `Refused` where a manifest does not have ``subject`` as its subject, wholly."""
    said = member(manifest, "subject", dict)
    if (said.get("digest"), said.get("size"), said.get("mediaType")) != (
        subject.digest,
        subject.size,
        subject.media_type,
    ):
        raise Refused("the manifest has another subject")


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """Returns the descriptor of a blob, with its members in cosign's order."""
    return {"mediaType": media_type, "size": len(content), "digest": str(Digest.of(content))}
