"""Signature formats that each break one rule of `SigningSuite`."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from drift_core.api import Descriptor, Judgement, Signature
from drift_core.conformance.reference.signing import FORMAT, KEY, LARGEST, HmacSigning


class KnowsOneAlgorithm(HmacSigning):
    """Signs no more of a digest than sha256 has."""

    def payload(self, repository: str, subject: Descriptor) -> bytes:
        return super().payload(repository, replace(subject, digest=subject.digest[:71]))


class ForgetsTheConfiguration(HmacSigning):
    """Leaves out the blob that every manifest has to name."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        return replace(super().artifact(subject, payload, annotations), blobs=(payload,))


class ForgetsTheSubject(HmacSigning):
    """Does not say to what the artifact belongs."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        whole = super().artifact(subject, payload, annotations)
        manifest = {key: value for key, value in json.loads(whole.manifest).items() if key != "subject"}
        return replace(whole, manifest=json.dumps(manifest).encode())


class LeavesOutTheEnd(HmacSigning):
    """Checks neither the end of the payload nor its digest."""

    def covered(self, payload: bytes) -> bytes:
        return payload[:-8]

    def signed(self, manifest: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
        return blobs[0]


class ComparesTheSize(HmacSigning):
    """Does not compare the digest."""

    def compare(self, said: Any, subject: Descriptor) -> None:
        super().compare(said, replace(subject, digest=said["digest"]))


class LeavesOutTheDigest(HmacSigning):
    """Signs everything except what matters."""

    def covered(self, payload: bytes) -> bytes:
        return re.sub(rb"[0-9a-f]{64}", b"", payload)


class TrustsTheKeyInside(HmacSigning):
    """Sends the key with the signature, and checks it by that."""

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        key = self.signing_key(annotations[KEY])
        return super().artifact(subject, payload, annotations | {"key": key.hex()})

    def trusted_key(self, annotations: Mapping[str, str]) -> bytes:
        super().trusted_key(annotations)
        return bytes.fromhex(annotations["key"])


class MakesKeys(HmacSigning):
    """Signs by a key of its own where it does not have the one that is asked for."""

    def signing_key(self, key_id: str) -> bytes:
        return self.secrets.get(key_id, b"default")


class KnowsNoTime(HmacSigning):
    """Does not look when a signature expires."""

    def compare(self, said: Any, subject: Descriptor) -> None:
        super().compare({**said, "expires": inf}, subject)


class TakesTheFirstBlob(HmacSigning):
    """Does not ask whether there is one."""

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        return await super().judge(repository, subject, replace(signature, blobs=(signature.blobs[0],)))


class TrustsTheManifest(HmacSigning):
    """Does not expect that something is missing in a manifest of its own format."""

    def parsed(self, document: bytes) -> Any:
        said = super().parsed(document)
        if isinstance(said, dict) and said.get("artifactType") == FORMAT:
            [descriptor["digest"] for descriptor in said["layers"]]
        return said


class StumblesOverDepth(HmacSigning):
    """Lets out what the parser raises for deep nesting."""

    def parsed(self, document: bytes) -> Any:
        try:
            return json.loads(document) if len(document) <= LARGEST else None
        except ValueError:
            return None


class RefusesOtherFormats(HmacSigning):
    """Takes every artifact for a signature."""

    def foreign(self) -> Sequence[Judgement]:
        return [self.refusal("no signature")]


class GivesNoReason(HmacSigning):
    """Keeps to itself why it refuses."""

    def refusal(self, reason: str) -> Judgement:
        return Judgement(good=False)


class WantsItsOwnSpelling(HmacSigning):
    """Takes only manifests that are written as its own signer writes them."""

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        if json.dumps(self.parsed(signature.manifest)).encode() != signature.manifest:
            return [self.refusal("the manifest is written in another way")]
        return await super().judge(repository, subject, signature)


class LetsTheFailureOut(HmacSigning):
    """Raises what happens where it cannot reach its keys."""

    def trusted(self) -> Mapping[str, bytes]:
        if not self.reachable:
            raise ConnectionRefusedError
        return self.secrets


class SharesItsState(HmacSigning):
    """Keeps on itself what it is asked about, while others ask."""

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        self.subject = subject
        await asyncio.sleep(0)
        return await super().judge(repository, self.subject, signature)


class EndsWithTheRequest(HmacSigning):
    """Loses its keys when a request is cancelled."""

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        try:
            return await super().sign(repository, subject, key_id, annotations=annotations, tagged=tagged)
        except asyncio.CancelledError:
            self.secrets.clear()
            raise


MUTANTS: dict[str, type[HmacSigning]] = {
    "signing.round-trip": KnowsOneAlgorithm,
    "signing.can-be-pushed": ForgetsTheConfiguration,
    "signing.can-be-found": ForgetsTheSubject,
    "signing.flipped-byte": LeavesOutTheEnd,
    "signing.other-subject": ComparesTheSize,
    "signing.forged-subject": LeavesOutTheDigest,
    "signing.other-key": TrustsTheKeyInside,
    "signing.unknown-key": MakesKeys,
    "signing.expired": KnowsNoTime,
    "signing.truncated": TakesTheFirstBlob,
    "signing.malformed": TrustsTheManifest,
    "signing.huge": StumblesOverDepth,
    "signing.other-formats": RefusesOtherFormats,
    "signing.reasons": GivesNoReason,
    "signing.samples": WantsItsOwnSpelling,
    "signing.without-trust-root": LetsTheFailureOut,
    "signing.concurrent": SharesItsState,
    "signing.cancelled": EndsWithTheRequest,
}
