"""The rules of every `Signer` and `Verifier` of one format."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from drift_core.api import Descriptor, Digest, Signature, Signer, Verdict, Verifier
from drift_core.conformance.rules import Suite

LIMIT = 30.0
"""Seconds after which a rule takes it that no answer will come."""

MIB = 1 << 20
REPOSITORY = "team/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SUBJECT = Descriptor(MANIFEST, Digest.of(b"subject"), 7)
OTHER = Descriptor(MANIFEST, Digest.of(b"another"), 7)
SUBJECTS = (
    SUBJECT,
    Descriptor("application/vnd.oci.image.index.v1+json", Digest.of(b"index"), 5),
    Descriptor("application/vnd.docker.distribution.manifest.v2+json", Digest.of(b"docker"), 6),
    Descriptor(MANIFEST, Digest.of(b"long", "sha512"), 4),
)
MALFORMED = (
    *(b"", b"{", b"[]", b"null", b"1", b'"text"', b"{}", b"\xff\xfe", b"\0" * 100, b"[" * 100_000, b'{"a":' * 100_000),
    *(b'{"layers":%b,"config":%b,"subject":%b,"annotations":%b}' % ((value,) * 4) for value in (b"1", b"[1]", b"{}")),
    *(b'{"schemaVersion":2,"artifactType":%b,"mediaType":%b}' % ((value,) * 2) for value in (b"1", b"[]", b"null")),
)


async def signed(signer: Signer, key_id: str, subject: Descriptor = SUBJECT) -> Signature:
    """Returns the first signature of the subject."""
    async with asyncio.timeout(LIMIT):
        signatures = await signer.sign(REPOSITORY, subject, key_id)
    return signatures[0]


async def verdict(verifier: Verifier, signature: Signature, subject: Descriptor = SUBJECT) -> Verdict:
    """Returns what is thought of the signature."""
    async with asyncio.timeout(LIMIT):
        return await verifier.verify(REPOSITORY, subject, signature)


def flipped(signature: Signature) -> Iterator[Signature]:
    """Yields the signature with one bit of a blob changed, as it is and with a manifest that names what is there."""
    for number, blob in enumerate(signature.blobs):
        for position in {0, len(blob) // 3, len(blob) // 2, len(blob) - 1} if blob else ():
            changed = blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :]
            blobs = (*signature.blobs[:number], changed, *signature.blobs[number + 1 :])
            yield replace(signature, blobs=blobs)
            renamed = signature.manifest.replace(Digest.of(blob).encode(), Digest.of(changed).encode())
            yield replace(signature, blobs=blobs, manifest=renamed)


class SigningSuite(Suite):
    """Needs the fixtures ``signer``, ``verifier``, ``key_id`` and ``other_key_id``.

    The verifier trusts the key ``key_id``, and not ``other_key_id``, which the signer has too. The other fixtures are
    optional; a rule without its fixture is skipped.
    """

    family = "signing"
    subject = "verifier"

    @pytest.fixture
    def foreign(self) -> Signature:
        """A signature of another format; by default an artifact that is no signature at all."""
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/plain", "layers": []}
        return Signature(MANIFEST, json.dumps(manifest).encode())

    @pytest.fixture
    def expired(self) -> tuple[Descriptor, Signature]:
        """A subject, and a signature of it that was good until some time ago."""
        pytest.skip("no fixture: expired")

    @pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.digest[:12])
    async def test_round_trip(self, signer: Signer, verifier: Verifier, key_id: str, subject: Descriptor) -> None:
        """Whatever is signed by a trusted key is verified, by each of the artifacts that the signer returns."""
        signatures = await signer.sign(REPOSITORY, subject, key_id)
        assert signatures
        for signature in signatures:
            given = await verdict(verifier, signature, subject)
            assert given.allowed is True, given.reason

    async def test_artifact(self, signer: Signer, key_id: str) -> None:
        """A signature is a manifest that names its blobs, with digest and size, and is found by subject or by tag."""
        for signature in await signer.sign(REPOSITORY, SUBJECT, key_id):
            manifest = json.loads(signature.manifest)
            assert manifest["schemaVersion"] == 2
            assert manifest.get("mediaType", signature.media_type) == signature.media_type
            named = [*manifest.get("layers", []), *([manifest["config"]] if "config" in manifest else [])]
            sizes = {descriptor["digest"]: descriptor["size"] for descriptor in named}
            for blob in signature.blobs:
                assert sizes[Digest.of(blob)] == len(blob)
            assert signature.tag or manifest["subject"]["digest"] == SUBJECT.digest

    async def test_flipped_bit(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """A changed bit in a blob is a negative verdict with a reason, also where the manifest was changed with it."""
        for changed in flipped(await signed(signer, key_id)):
            given = await verdict(verifier, changed)
            assert given.allowed is False
            assert given.reason

    async def test_other_subject(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """A signature is worth nothing beside another subject, also where the manifest is made to name that."""
        signature = await signed(signer, key_id)
        moved = signature.manifest.replace(SUBJECT.digest.encode(), OTHER.digest.encode())
        for artifact in (signature, replace(signature, manifest=moved)):
            given = await verdict(verifier, artifact, OTHER)
            assert given.allowed is False
            assert given.reason

    async def test_other_key(self, signer: Signer, verifier: Verifier, other_key_id: str) -> None:
        """A signature by a key that is not trusted is a negative verdict with a reason."""
        given = await verdict(verifier, await signed(signer, other_key_id))
        assert given.allowed is False
        assert given.reason

    async def test_unknown_key(self, signer: Signer) -> None:
        """A key that the signer does not have makes no signature: it raises, and takes no other key instead."""
        try:
            signatures = await signer.sign(REPOSITORY, SUBJECT, "no-such-key")
        except Exception:  # noqa: BLE001 - the request fails, whatever is raised
            return
        assert not signatures

    async def test_truncated(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact of which a blob is cut short or missing is a negative verdict with a reason."""
        signature = await signed(signer, key_id)
        for number, blob in enumerate(signature.blobs):
            before, behind = signature.blobs[:number], signature.blobs[number + 1 :]
            for part in ((blob[:-1],), (b"",), ()) if blob else ():
                given = await verdict(verifier, replace(signature, blobs=(*before, *part, *behind)))
                assert given.allowed is False
                assert given.reason

    async def test_huge(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact of many mebibytes is not verified, whichever part of it is huge, and is no fault."""
        signature = await signed(signer, key_id)
        for blobs in ((bytes(16 * MIB),) * len(signature.blobs), (*signature.blobs, bytes(16 * MIB)), (b"",) * 100_000):
            assert (await verdict(verifier, replace(signature, blobs=blobs))).allowed is not True
        huge = b'{"annotations":{"a":"' + b"a" * 16 * MIB + b'"}}'
        assert (await verdict(verifier, replace(signature, manifest=huge))).allowed is not True

    async def test_malformed(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact whose manifest is not one is not verified, and is no fault."""
        signature = await signed(signer, key_id)
        half = len(signature.manifest) // 2
        for manifest in (*MALFORMED, signature.manifest[:half], signature.manifest[half:]):
            assert (await verdict(verifier, replace(signature, manifest=manifest))).allowed is not True, manifest[:40]

    async def test_other_format(self, verifier: Verifier, foreign: Signature) -> None:
        """A signature of another format is left to its verifier."""
        assert (await verdict(verifier, foreign)).allowed is None

    async def test_expired(self, verifier: Verifier, expired: tuple[Descriptor, Signature]) -> None:
        """A signature that has expired is a negative verdict with a reason."""
        subject, signature = expired
        given = await verdict(verifier, signature, subject)
        assert given.allowed is False
        assert given.reason

    async def test_concurrent(
        self, signer: Signer, verifier: Verifier, key_id: str, other_key_id: str, foreign: Signature
    ) -> None:
        """A hundred verifications at once are each answered as they would be alone."""
        good, bad = await asyncio.gather(*(signed(signer, key) for key in (key_id, other_key_id)))
        kinds = [(good, SUBJECT), (bad, SUBJECT), (good, OTHER), (foreign, SUBJECT)]
        alone = [(await verdict(verifier, *kind)).allowed for kind in kinds]
        together = await asyncio.gather(*(verdict(verifier, *kinds[number % 4]) for number in range(100)))
        assert [given.allowed for given in together] == alone * 25

    async def test_cancelled(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """After a signing and a verification that were cancelled at any point, the next are as good as any."""
        signature = await signed(signer, key_id)
        for steps in range(10):
            signing = asyncio.create_task(signed(signer, key_id))
            verifying = asyncio.create_task(verdict(verifier, signature))
            for _ in range(steps):
                await asyncio.sleep(0)
            signing.cancel()
            verifying.cancel()
            await asyncio.wait([signing, verifying])
        assert (await verdict(verifier, await signed(signer, key_id))).allowed is True
