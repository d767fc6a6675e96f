"""A `Signer` and `Verifier` of a format of its own: HMAC-SHA256, by keys that both sides know."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from drift_core.api import Denied, Descriptor, Digest, Judgement, KeyInfo, Signature, Unavailable

FORMAT = "application/vnd.drift.memory.signature.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)
SIGNATURE = "drift.memory/signature"
KEY = "drift.memory/key"
LARGEST = 1 << 20
"""Most bytes of a manifest or a blob that are looked at."""


class MalformedError(Exception):
    """An artifact of this format in which something is missing or wrong."""


class HmacSigning:
    """Signs by ``keys``, each of which it trusts too; a signature is good for ``lifetime`` seconds.

    While the keys are not ``reachable`` no signature is good.
    """

    reachable = True
    files: Sequence[str] = ()
    media_types: Collection[str] = (FORMAT,)

    def __init__(
        self, keys: Mapping[str, bytes], lifetime: float = 3600.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.secrets = dict(keys)
        self.lifetime = lifetime
        self.clock = clock

    def keys(self) -> Sequence[KeyInfo]:
        """See `Signer` and `Verifier`."""
        return [KeyInfo(name=name, kind="verification key") for name in self.secrets]

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
        del tagged
        if annotations:
            raise Denied("this format signs no annotations")
        payload = self.payload(repository, subject)
        # Where others get their turn: a real one asks a key service.
        await asyncio.sleep(0)
        mark = hmac.digest(self.signing_key(key_id), self.covered(payload), "sha256").hex()
        return [self.artifact(subject, payload, {KEY: key_id, SIGNATURE: mark})]

    def signing_key(self, key_id: str) -> bytes:
        """Returns a key. Raises `Denied`."""
        if key_id not in self.secrets:
            raise Denied("there is no such key", key_id=key_id)
        return self.secrets[key_id]

    def payload(self, repository: str, subject: Descriptor) -> bytes:
        """Returns what is signed."""
        said = {
            "digest": subject.digest,
            "mediaType": subject.media_type,
            "repository": repository,
            "expires": self.clock() + self.lifetime,
        }
        return json.dumps(said).encode()

    def artifact(self, subject: Descriptor, payload: bytes, annotations: dict[str, str]) -> Signature:
        """Returns what has to be pushed."""
        layer = Descriptor(FORMAT, Digest.of(payload), len(payload))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": FORMAT,
            "config": self.written(EMPTY),
            "layers": [self.written(layer) | {"annotations": annotations}],
            "subject": self.written(subject),
        }
        return Signature(MANIFEST, json.dumps(manifest).encode(), (payload, b"{}"))

    def written(self, descriptor: Descriptor) -> dict[str, Any]:
        """Returns a descriptor as a manifest has it."""
        return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """See `Verifier`."""
        found = self.parsed(manifest)
        return media_type == MANIFEST and isinstance(found, dict) and found.get("artifactType") == FORMAT

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """See `Verifier`; what was signed in one repository is good in every other."""
        del repository
        if not self.claims(signature.media_type, signature.manifest):
            return self.foreign()
        manifest = self.parsed(signature.manifest)
        try:
            payload = self.signed(manifest, signature.blobs)
            await asyncio.sleep(0)
            self.prove(manifest, payload)
            self.compare(self.parsed(payload), subject)
        except Unavailable:
            return [Judgement(good=False, reason="the trusted keys cannot be reached")]
        except (MalformedError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            return [self.refusal(f"{type(error).__name__}: {error}")]
        return [Judgement(good=True, signer=manifest["layers"][0]["annotations"][KEY])]

    def foreign(self) -> Sequence[Judgement]:
        """Returns what is said of other formats: nothing."""
        return []

    def refusal(self, reason: str) -> Judgement:
        """Returns the judgement on a bad signature."""
        return Judgement(good=False, reason=reason)

    def parsed(self, document: bytes) -> Any:
        """Returns what a JSON document says, or None for what is none."""
        if len(document) > LARGEST:
            return None
        try:
            return json.loads(document)
        except (ValueError, RecursionError):
            return None

    def signed(self, manifest: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
        """Returns the blob that the manifest names. Raises `MalformedError`."""
        layers = manifest["layers"]
        if len(layers) != 1:
            raise MalformedError("there is one payload")
        (layer,) = layers
        for blob in blobs:
            if len(blob) <= LARGEST and (str(Digest.of(blob)), len(blob)) == (layer["digest"], layer["size"]):
                return blob
        raise MalformedError("the payload is missing, or not what the manifest says")

    def prove(self, manifest: Mapping[str, Any], payload: bytes) -> None:
        """Raises `MalformedError` where no trusted key has signed the payload."""
        annotations = manifest["layers"][0]["annotations"]
        expected = hmac.digest(self.trusted_key(annotations), self.covered(payload), "sha256").hex()
        if not hmac.compare_digest(expected.encode(), str(annotations[SIGNATURE]).encode("utf-8", "replace")):
            raise MalformedError("the signature is wrong")

    def covered(self, payload: bytes) -> bytes:
        """Returns the part of the payload that is signed: all of it."""
        return payload

    def trusted_key(self, annotations: Mapping[str, str]) -> bytes:
        """Returns the key by which the artifact says that it is signed."""
        keys = self.trusted()
        if annotations[KEY] not in keys:
            raise MalformedError("the key is not trusted")
        return keys[annotations[KEY]]

    def trusted(self) -> Mapping[str, bytes]:
        """Returns the trusted keys. Raises `Unavailable`."""
        if not self.reachable:
            raise Unavailable
        return self.secrets

    def compare(self, said: Any, subject: Descriptor) -> None:
        """Raises `MalformedError` where something else was signed, or the time is over."""
        if said["digest"] != subject.digest or said["mediaType"] != subject.media_type:
            raise MalformedError("something else was signed")
        if said["expires"] <= self.clock():
            raise MalformedError("the signature has expired")
