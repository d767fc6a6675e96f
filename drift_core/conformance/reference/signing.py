"""A `Signer` and `Verifier` of a format of its own: a manifest that names its subject, and an HMAC of it as a blob."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drift_core.api import Descriptor, Digest, Signature, Verdict

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
FORMAT = "application/vnd.drift.conformance.hmac.v1"
MAX_BYTES = 1 << 20
"""The largest artifact that is looked into."""


class HmacSigning:
    """Signs by ``keys``, each of which is also trusted; a signature is good for ``lifetime`` seconds."""

    def __init__(
        self, keys: Mapping[str, bytes], lifetime: float = 3600.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.keys = keys
        self.lifetime = lifetime
        self.clock = clock

    async def sign(self, repository: str, subject: Descriptor, key_id: str) -> Sequence[Signature]:
        """See `Signer`; the format says nothing of the repository."""
        del repository
        await asyncio.sleep(0)
        claims = {"digest": subject.digest, "key": key_id, "until": self.clock() + self.lifetime}
        payload = json.dumps(claims).encode()
        blobs = payload, hmac.digest(self.keys[key_id], payload, "sha256")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE,
            "artifactType": FORMAT,
            "layers": [{"mediaType": FORMAT, "digest": Digest.of(blob), "size": len(blob)} for blob in blobs],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
        }
        return [Signature(MEDIA_TYPE, json.dumps(manifest).encode(), blobs)]

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        """See `Verifier`."""
        del repository
        await asyncio.sleep(0)
        if len(signature.manifest) + sum(len(blob) for blob in signature.blobs) > MAX_BYTES:
            return Verdict(False, "the artifact is too large to be a signature")
        manifest = self.parsed(signature.manifest)
        if manifest is None or manifest.get("artifactType") != FORMAT:
            return Verdict(None, "not of this format")
        fault = self.fault(subject, manifest, signature.blobs)
        return Verdict(not fault, fault)

    def parsed(self, content: bytes) -> dict[str, Any] | None:
        """Returns a JSON object, or None."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def fault(self, subject: Descriptor, manifest: Mapping[str, Any], blobs: Sequence[bytes]) -> str:
        """Returns what is wrong with a signature of this format, or nothing."""
        layers = manifest.get("layers")
        named = [layer.get("digest") for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
        if named != [Digest.of(blob) for blob in blobs]:
            return "the artifact is not whole"
        payload, proof, *_ = *blobs, b"", b""
        claims = self.parsed(payload) or {}
        if not self.proven(str(claims.get("key")), payload, proof):
            return "no trusted key made it"
        if not self.about(claims, subject):
            return "it is about something else"
        return "" if self.current(claims) else "it has expired"

    def proven(self, key_id: str, payload: bytes, proof: bytes) -> bool:
        """Tells whether a trusted key made the proof."""
        key = self.keys.get(key_id)
        return key is not None and hmac.compare_digest(hmac.digest(key, payload, "sha256"), proof)

    def about(self, claims: Mapping[str, Any], subject: Descriptor) -> bool:
        """Tells whether what is signed names the subject."""
        return bool(claims["digest"] == subject.digest)

    def current(self, claims: Mapping[str, Any]) -> bool:
        """Tells whether the signature is still good."""
        return bool(self.clock() < claims["until"])
