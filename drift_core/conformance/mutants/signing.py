"""Pairs of a signer and a verifier that each break one rule of `SigningSuite`."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from drift_core.api import Descriptor, Signature, Verdict
from drift_core.conformance.reference.signing import FORMAT, LARGEST, MemorySigner, MemoryVerifier


class KnowsOneAlgorithm(MemorySigner):
    """Signs no more of a digest than sha256 has."""

    def payload(self, repository: str, subject: Descriptor) -> bytes:
        return super().payload(repository, replace(subject, digest=subject.digest[:71]))


class ForgetsTheConfiguration(MemorySigner):
    """Leaves out the blob that every manifest has to name."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        return replace(super().artifact(subject, payload, annotations), blobs=(payload,))


class ForgetsTheSubject(MemorySigner):
    """Does not say to what the artifact belongs."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        whole = super().artifact(subject, payload, annotations)
        manifest = {key: value for key, value in json.loads(whole.manifest).items() if key != "subject"}
        return replace(whole, manifest=json.dumps(manifest).encode())


def _but_the_end(payload: bytes) -> bytes:
    return payload[:-8]


class SignsAllButTheEnd(MemorySigner):
    """Leaves the end of the payload unsigned."""

    covered = staticmethod(_but_the_end)


class ReadsAllButTheEnd(MemoryVerifier):
    """Checks neither the end of the payload nor its digest."""

    covered = staticmethod(_but_the_end)

    def payload(self, manifest: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
        return blobs[0]


class ComparesTheSize(MemoryVerifier):
    """Does not compare the digest."""

    def compare(self, said: Any, subject: Descriptor) -> None:
        super().compare(said, replace(subject, digest=said["digest"]))


def _but_the_digest(payload: bytes) -> bytes:
    return re.sub(rb"[0-9a-f]{64}", b"", payload)


class SignsAllButTheDigest(MemorySigner):
    """Signs everything except what matters."""

    covered = staticmethod(_but_the_digest)


class ReadsAllButTheDigest(MemoryVerifier):
    """Takes such signatures."""

    covered = staticmethod(_but_the_digest)


class SendsItsKey(MemorySigner):
    """Puts the key by which the signature can be checked beside it."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        return super().artifact(subject, payload, annotations | {"key": self.key(next(iter(self.keys))).hex()})


class TrustsTheKeyInside(MemoryVerifier):
    """Checks a signature by the key that was sent with it."""

    def key(self, annotations: Mapping[str, str]) -> bytes:
        super().key(annotations)
        return bytes.fromhex(annotations["key"])


class MakesKeys(MemorySigner):
    """Signs by a key of its own where it does not have the one that is asked for."""

    def key(self, key_id: str) -> bytes:
        return self.keys.get(key_id, b"default")


class KnowsNoTime(MemoryVerifier):
    """Does not look when a signature expires."""

    def compare(self, said: Any, subject: Descriptor) -> None:
        super().compare({**said, "expires": inf}, subject)


class TakesTheFirstBlob(MemoryVerifier):
    """Does not ask whether there is one."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        return await super().verify(repository, subject, replace(signature, blobs=(signature.blobs[0],)))


class TrustsTheManifest(MemoryVerifier):
    """Does not expect that something is missing in a manifest of its own format."""

    def parsed(self, document: bytes) -> Any:
        said = super().parsed(document)
        if isinstance(said, dict) and said.get("artifactType") == FORMAT:
            [descriptor["digest"] for descriptor in said["layers"]]
        return said


class StumblesOverDepth(MemoryVerifier):
    """Lets out what the parser raises for deep nesting."""

    def parsed(self, document: bytes) -> Any:
        try:
            return json.loads(document) if len(document) <= LARGEST else None
        except ValueError:
            return None


class RefusesOtherFormats(MemoryVerifier):
    """Takes every artifact for a signature."""

    def foreign(self) -> Verdict:
        return Verdict(False, "no signature")


class GivesNoReason(MemoryVerifier):
    """Keeps to itself why it refuses."""

    def refusal(self, reason: str) -> Verdict:
        return Verdict(False)


class WantsItsOwnSpelling(MemoryVerifier):
    """Takes only manifests that are written as its own signer writes them."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        if json.dumps(self.parsed(signature.manifest)).encode() != signature.manifest:
            return Verdict(False, "the manifest is written in another way")
        return await super().verify(repository, subject, signature)


class LetsTheFailureOut(MemoryVerifier):
    """Raises what happens where it cannot reach its keys."""

    def trusted(self) -> Mapping[str, bytes]:
        if self.keys is None:
            raise ConnectionRefusedError
        return self.keys


class SharesItsState(MemoryVerifier):
    """Keeps on itself what it is asked about, while others ask."""

    async def verify(self, repository: str, subject: Descriptor, signature: Signature) -> Verdict:
        self.subject = subject
        await asyncio.sleep(0)
        return await super().verify(repository, self.subject, signature)


class EndsWithTheRequest(MemorySigner):
    """Loses its keys when a request is cancelled."""

    async def sign(self, repository: str, subject: Descriptor, key_id: str) -> Sequence[Signature]:
        try:
            return await super().sign(repository, subject, key_id)
        except asyncio.CancelledError:
            self.keys.clear()
            raise


MUTANTS: dict[str, tuple[type[MemorySigner], type[MemoryVerifier]]] = {
    "signing.round-trip": (KnowsOneAlgorithm, MemoryVerifier),
    "signing.can-be-pushed": (ForgetsTheConfiguration, MemoryVerifier),
    "signing.can-be-found": (ForgetsTheSubject, MemoryVerifier),
    "signing.flipped-byte": (SignsAllButTheEnd, ReadsAllButTheEnd),
    "signing.other-subject": (MemorySigner, ComparesTheSize),
    "signing.forged-subject": (SignsAllButTheDigest, ReadsAllButTheDigest),
    "signing.other-key": (SendsItsKey, TrustsTheKeyInside),
    "signing.unknown-key": (MakesKeys, MemoryVerifier),
    "signing.expired": (MemorySigner, KnowsNoTime),
    "signing.truncated": (MemorySigner, TakesTheFirstBlob),
    "signing.malformed": (MemorySigner, TrustsTheManifest),
    "signing.huge": (MemorySigner, StumblesOverDepth),
    "signing.other-formats": (MemorySigner, RefusesOtherFormats),
    "signing.reasons": (MemorySigner, GivesNoReason),
    "signing.samples": (MemorySigner, WantsItsOwnSpelling),
    "signing.without-trust-root": (MemorySigner, LetsTheFailureOut),
    "signing.concurrent": (MemorySigner, SharesItsState),
    "signing.cancelled": (EndsWithTheRequest, MemoryVerifier),
}
