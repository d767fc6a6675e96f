"""Signers and verifiers that each break one rule of `SigningSuite`."""

import asyncio
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from drift_core.api import Descriptor, Signature, Verdict
from drift_core.conformance.reference.signing import MAX_BYTES, HmacSigning


class KnowsOneAlgorithm(HmacSigning):
    """Refuses a subject whose digest is not a SHA-256."""

    def about(self, claims: Mapping[str, Any], subject: Descriptor) -> bool:
        return subject.digest.startswith("sha256:") and super().about(claims, subject)


class GivesNoSizes(HmacSigning):
    """Describes its blobs as empty."""

    async def sign(self, repository: str, subject: Descriptor, key_id: str) -> Sequence[Signature]:
        (signature,) = await super().sign(repository, subject, key_id)
        manifest = json.loads(signature.manifest)
        for layer in manifest["layers"]:
            layer["size"] = 0
        return [replace(signature, manifest=json.dumps(manifest).encode())]


class LooksAtNoProof(HmacSigning):
    """Believes whoever names a trusted key."""

    def proven(self, key_id: str, payload: bytes, proof: bytes) -> bool:
        return key_id in self.keys


class LooksAtNoSubject(HmacSigning):
    """Takes a good signature to be one of whatever it lies beside."""

    def about(self, claims: Mapping[str, Any], subject: Descriptor) -> bool:
        return True


class TrustsEverySigner(HmacSigning):
    """Trusts the keys of all who sign."""

    every: ClassVar[dict[str, bytes]] = {}

    def proven(self, key_id: str, payload: bytes, proof: bytes) -> bool:
        key = self.every.get(key_id)
        return key is not None and hmac.compare_digest(hmac.digest(key, payload, "sha256"), proof)

    async def sign(self, repository: str, subject: Descriptor, key_id: str) -> Sequence[Signature]:
        self.every.update(self.keys)
        return await super().sign(repository, subject, key_id)


class TakesAnotherKey(HmacSigning):
    """Signs by its first key where it does not have the one that was asked for."""

    async def sign(self, repository: str, subject: Descriptor, key_id: str) -> Sequence[Signature]:
        return await super().sign(repository, subject, key_id if key_id in self.keys else next(iter(self.keys)))


class StumblesOverMissingBlobs(HmacSigning):
    """Expects that everything that the manifest names is there."""

    def fault(self, subject: Descriptor, manifest: Mapping[str, Any], blobs: Sequence[bytes]) -> str:
        for number, _ in enumerate(manifest.get("layers") or ()):
            blobs[number]
        return super().fault(subject, manifest, blobs)


class StumblesOverSize(HmacSigning):
    """Raises for an artifact that is larger than it expects."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        if len(signature.manifest) > MAX_BYTES:
            raise MemoryError
        return await super().verify(repository, subject, signature)


class StumblesOverDepth(HmacSigning):
    """Lets out what json raises for deep nesting."""

    def parsed(self, content: bytes) -> dict[str, Any] | None:
        if content.startswith(b"[["):
            json.loads(content)
        return super().parsed(content)


class RefusesOtherFormats(HmacSigning):
    """Takes what it does not know for a bad signature."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        given = await super().verify(repository, subject, signature)
        return Verdict(False, given.reason) if given.allowed is None else given


class LooksAtNoDate(HmacSigning):
    """Takes every signature to be good for ever."""

    def current(self, claims: Mapping[str, Any]) -> bool:
        return True


class SharesItsState(HmacSigning):
    """Keeps on itself what it verifies, while others run."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        self.current_subject = subject
        await asyncio.sleep(0)
        return await super().verify(repository, self.current_subject, signature)


class StaysCancelled(HmacSigning):
    """Trusts nobody any more after a verification was cancelled."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        try:
            return await super().verify(repository, subject, signature)
        except asyncio.CancelledError:
            self.keys = {}
            raise


MUTANTS: dict[str, type[HmacSigning]] = {
    "signing.round-trip": KnowsOneAlgorithm,
    "signing.artifact": GivesNoSizes,
    "signing.flipped-bit": LooksAtNoProof,
    "signing.other-subject": LooksAtNoSubject,
    "signing.other-key": TrustsEverySigner,
    "signing.unknown-key": TakesAnotherKey,
    "signing.truncated": StumblesOverMissingBlobs,
    "signing.huge": StumblesOverSize,
    "signing.malformed": StumblesOverDepth,
    "signing.other-format": RefusesOtherFormats,
    "signing.expired": LooksAtNoDate,
    "signing.concurrent": SharesItsState,
    "signing.cancelled": StaysCancelled,
}
