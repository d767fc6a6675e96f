"""The rules of every `Signer` with the `Verifier` of its format."""

import asyncio
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from drift_core.api import Descriptor, Digest, Signature, Signer, Verdict, Verifier
from drift_core.conformance.rules import Suite

MIB = 1 << 20
LIMIT = 30.0
"""Seconds after which a rule takes it that no answer will come."""

REPOSITORY = "team/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = Descriptor(MANIFEST, Digest.of(b"image"), 1234)
OTHER = Descriptor(MANIFEST, Digest.of(b"other"), 1234)
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}=*")

Sample = tuple[str, Descriptor, Signature]
"""A repository, a manifest in it, and a signature of that."""


async def sign(
    signer: Signer, key_id: str, subject: Descriptor = IMAGE, repository: str = REPOSITORY
) -> list[Signature]:
    """Returns the artifacts of one signature, of which there has to be one."""
    async with asyncio.timeout(LIMIT):
        made = list(await signer.sign(repository, subject, key_id))
    assert made
    return made


async def judge(
    verifier: Verifier, signature: Signature, subject: Descriptor = IMAGE, repository: str = REPOSITORY
) -> Verdict:
    """Returns the verdict on an artifact that is said to sign ``subject``: None of another format.

    It is True where every signature in it is good.
    """
    async with asyncio.timeout(LIMIT):
        judgements = await verifier.judge(repository, subject, signature)
    if not judgements:
        return Verdict(None)
    bad = [judgement.reason for judgement in judgements if not judgement.good]
    return Verdict(not bad, "; ".join(bad))


def layers(signature: Signature) -> list[Any]:
    """Returns the descriptors in the artifact's manifest that lead to its blobs."""
    return list(json.loads(signature.manifest).get("layers") or [])


def parts(signature: Signature) -> list[int]:
    """Returns which of the blobs are layers; a configuration is read by nobody."""
    named = {layer["digest"] for layer in layers(signature)}
    return [number for number, blob in enumerate(signature.blobs) if Digest.of(blob) in named]


def exchanged(signature: Signature, number: int, blob: bytes) -> Signature:
    """Returns the artifact with another blob, of which its manifest knows nothing."""
    return replace(signature, blobs=(*signature.blobs[:number], blob, *signature.blobs[number + 1 :]))


def pushed_again(signature: Signature, number: int, blob: bytes) -> Signature:
    """Returns the artifact with another blob, and a manifest that names that one."""
    old, new = (str(Digest.of(content)).encode() for content in (signature.blobs[number], blob))
    manifest = json.loads(signature.manifest.replace(old, new))
    for layer in manifest.get("layers") or []:
        if layer["digest"] == new.decode():
            layer["size"] = len(blob)
    return replace(exchanged(signature, number, blob), manifest=json.dumps(manifest).encode())


def positions(content: bytes, most: int = 64) -> range:
    """Returns evenly spread positions, the first and all of a short content among them."""
    return range(0, len(content), max(1, len(content) // most))


def flipped(content: bytes) -> Iterator[bytes]:
    """Yields the content with one bit wrong, in one byte after the other; its end included."""
    for position in sorted({*positions(content), *range(max(0, len(content) - 8), len(content))}):
        yield content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def forged(content: bytes, old: bytes, new: bytes) -> bytes:
    """Returns the content with ``new`` in place of ``old``, also where that is within base64."""

    def exchange(match: re.Match[bytes]) -> bytes:
        run = match[0]
        # The alphabets of RFC 4648 sections 4 and 5, with padding or without.
        letters = b"-_" if set(run) & set(b"-_") else b"+/"
        bare = run.rstrip(b"=")
        # A run that is no base64 has a length that base64 never has, or the text that is looked for is not in it.
        decoded = b64decode(bare + b"=" * (-len(bare) % 4), altchars=letters) if len(bare) % 4 != 1 else b""
        if old not in decoded:
            return run
        encoded = b64encode(decoded.replace(old, new), altchars=letters)
        return encoded if run.endswith(b"=") else encoded.rstrip(b"=")

    return BASE64.sub(exchange, content.replace(old, new))


def about(signature: Signature, subject: Descriptor, other: Descriptor) -> Signature:
    """Returns what somebody without a key can make of a signature of ``subject``: one that says ``other``."""
    old, new = (Digest.parse(descriptor.digest).encoded.encode() for descriptor in (subject, other))
    signature = replace(signature, manifest=forged(signature.manifest, old, new))
    for number in parts(signature):
        signature = pushed_again(signature, number, forged(signature.blobs[number], old, new))
    return signature


class SigningSuite(Suite):
    """Needs the fixtures ``signer``, ``verifier``, ``key_id`` and ``stranger``.

    ``verifier`` trusts the key ``key_id`` of ``signer``. ``stranger`` is a signer with another key of that
    name. The other fixtures are optional; a rule without its fixture is skipped.
    """

    family = "signing"
    subject = "verifier"
    large: ClassVar[int] = 64 * MIB
    """Bytes of a blob that no signature needs."""

    @pytest.fixture
    def expired(self) -> Sample:
        """A signature that was good until some time ago, or whose certificate was."""
        pytest.skip("no fixture: expired")

    @pytest.fixture
    def samples(self) -> list[Sample]:
        """Signatures that the format's own clients made, by a key that the verifier trusts."""
        pytest.skip("no fixture: samples")

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        """A verifier that cannot reach what it trusts, and what it is documented to answer then."""
        pytest.skip("no fixture: without_trust_root")

    async def test_round_trip(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """What was signed verifies: a manifest or an index, by any algorithm of digest, in any repository."""
        for subject in (IMAGE, Descriptor(INDEX, Digest.of(b"index", "sha512"), 1)):
            for repository in ("app", REPOSITORY, "a.b/c_d/e--f/" + "long" * 50):
                for signature in await sign(signer, key_id, subject, repository):
                    verdict = await judge(verifier, signature, subject, repository)
                    assert verdict.allowed is True, verdict.reason

    async def test_can_be_pushed(self, signer: Signer, key_id: str) -> None:
        """An artifact can be pushed: a manifest of the stated type, whose blobs are all there, as large as it says."""
        for signature in await sign(signer, key_id):
            manifest = json.loads(signature.manifest)
            assert manifest["schemaVersion"] == 2
            assert manifest.get("mediaType", signature.media_type) == signature.media_type
            assert signature.tag is None or TAG.fullmatch(signature.tag)
            sizes = {str(Digest.of(blob)): len(blob) for blob in signature.blobs}
            needed = {part["digest"]: part["size"] for part in (manifest["config"], *manifest["layers"])}
            assert needed.items() <= sizes.items()

    async def test_can_be_found(self, signer: Signer, key_id: str) -> None:
        """An artifact is found from what it signs: it has that for its subject, or a tag made of its digest."""
        for signature in await sign(signer, key_id):
            subject = json.loads(signature.manifest).get("subject") or {}
            algorithm, _, encoded = IMAGE.digest.partition(":")
            tagged = (signature.tag or "").startswith(f"{algorithm}-{encoded}")
            assert tagged or (subject.get("digest"), subject.get("size")) == (IMAGE.digest, IMAGE.size)

    async def test_flipped_byte(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact is refused if a bit of a blob is wrong, or of what its manifest says about that."""
        for signature in await sign(signer, key_id):
            for number in parts(signature):
                for blob in flipped(signature.blobs[number]):
                    assert (await judge(verifier, exchanged(signature, number, blob))).allowed is not True
            for text in _long_texts(layers(signature)):
                middle = len(text) // 2
                other = text[:middle] + ("a" if text[middle] != "a" else "b") + text[middle + 1 :]
                manifest = signature.manifest.replace(json.dumps(text)[1:-1].encode(), json.dumps(other)[1:-1].encode())
                assert manifest != signature.manifest
                assert (await judge(verifier, replace(signature, manifest=manifest))).allowed is not True

    async def test_other_subject(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """A signature of one thing is refused for another, be it as large and of the same type."""
        for signature in await sign(signer, key_id):
            # First the right one: a cache that forgets what was asked about would answer for it again.
            await judge(verifier, signature)
            assert (await judge(verifier, signature, OTHER)).allowed is False

    async def test_forged_subject(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """A signature that was changed to say another digest, and pushed again, is refused for either."""
        for signature in await sign(signer, key_id):
            forgery = about(signature, IMAGE, OTHER)
            for subject in (IMAGE, OTHER):
                assert (await judge(verifier, forgery, subject)).allowed is not True

    async def test_other_key(self, stranger: Signer, verifier: Verifier, key_id: str) -> None:
        """A signature by a key that is not trusted is refused, whatever it says about its key."""
        for signature in await sign(stranger, key_id):
            assert (await judge(verifier, signature)).allowed is False

    async def test_unknown_key(self, signer: Signer, key_id: str) -> None:
        """A signer that is asked for a key that it does not have raises: it takes no other instead."""
        for unknown in (f"{key_id}-unknown", "", "../key", "\0"):
            try:
                made = await sign(signer, unknown)
            except Exception:  # noqa: BLE001, S112 - the request fails, whatever is raised
                continue
            assert not made

    async def test_expired(self, verifier: Verifier, expired: Sample) -> None:
        """A signature that has expired is refused."""
        _, subject, signature = expired
        assert (await judge(verifier, signature, subject)).allowed is False

    async def test_truncated(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact of which something is missing is no good signature, and no error."""
        for signature in await sign(signer, key_id):
            cut = [replace(signature, manifest=signature.manifest[:end]) for end in positions(signature.manifest)]
            for number in parts(signature):
                blob = signature.blobs[number]
                cut += [exchanged(signature, number, blob[:end]) for end in positions(blob)]
                cut += [pushed_again(signature, number, blob[:end]) for end in positions(blob)]
            for artifact in (*cut, replace(signature, blobs=())):
                assert (await judge(verifier, artifact)).allowed is not True

    async def test_malformed(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact whose manifest lacks something, or says it by another type, is judged, and no error."""
        for signature in await sign(signer, key_id):
            for manifest in _malformed(json.loads(signature.manifest)):
                await judge(verifier, replace(signature, manifest=json.dumps(manifest).encode()))

    async def test_huge(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """An artifact that is larger or deeper than any signature needs is no good signature, and no error."""
        for signature in await sign(signer, key_id):
            manifest = json.loads(signature.manifest)
            for layer in manifest["layers"]:
                layer["digest"] = OTHER.digest
            manifest["layers"] *= 20_000
            huge = [replace(signature, manifest=content) for content in (*_deep(), json.dumps(manifest).encode())]
            for number in parts(signature):
                huge += [pushed_again(signature, number, content) for content in (*_deep(), bytes(self.large))]
            for artifact in huge:
                assert (await judge(verifier, artifact)).allowed is not True

    async def test_other_formats(self, verifier: Verifier) -> None:
        """What is no signature of this format is left to other verifiers."""
        config, layer = b'{"architecture":"amd64","os":"linux"}', b"layer"
        image = _manifest("application/vnd.oci.image.config.v1+json", config, "application/octet-stream", layer)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        chart = _manifest("application/vnd.oci.empty.v1+json", b"{}", "text/plain", layer)
        chart |= {"artifactType": "application/vnd.example.chart.v1"}
        for media_type, manifest in ((MANIFEST, image), (INDEX, index), (MANIFEST, chart)):
            artifact = Signature(media_type, json.dumps(manifest).encode(), (config, b"{}", layer))
            assert (await judge(verifier, artifact)).allowed is None

    async def test_reasons(self, signer: Signer, stranger: Signer, verifier: Verifier, key_id: str) -> None:
        """A refusal says why, so that its reader can tell a wrong subject from a wrong key."""
        for good, bad in zip(await sign(signer, key_id), await sign(stranger, key_id), strict=True):
            verdicts = [await judge(verifier, good, OTHER), await judge(verifier, bad)]
            reasons = [verdict.reason for verdict in verdicts if verdict.allowed is False]
            assert all(reasons)
            assert len(set(reasons)) == len(reasons)

    async def test_samples(self, verifier: Verifier, samples: Sequence[Sample]) -> None:
        """Signatures that other clients made verify."""
        for repository, subject, signature in samples:
            verdict = await judge(verifier, signature, subject, repository)
            assert verdict.allowed is True, verdict.reason

    async def test_without_trust_root(
        self, signer: Signer, key_id: str, without_trust_root: tuple[Verifier, bool | None]
    ) -> None:
        """Where what is trusted cannot be reached the verdict is the documented one, with the reason; no error."""
        verifier, documented = without_trust_root
        for signature in await sign(signer, key_id):
            verdict = await judge(verifier, signature)
            assert verdict.allowed is documented
            assert verdict.reason

    async def test_concurrent(self, signer: Signer, stranger: Signer, verifier: Verifier, key_id: str) -> None:
        """Many verifications at once, of good signatures and bad ones, are each judged as they would be alone."""
        (good, *_), (theirs, *_) = await sign(signer, key_id), await sign(stranger, key_id)
        (other, *_) = await sign(signer, key_id, OTHER)
        cases = [(good, IMAGE), (good, OTHER), (theirs, IMAGE), (other, OTHER)]
        alone = [await judge(verifier, signature, subject) for signature, subject in cases]
        together = await asyncio.gather(*(judge(verifier, signature, subject) for signature, subject in cases * 25))
        assert [verdict.allowed for verdict in together] == [verdict.allowed for verdict in alone] * 25

    async def test_cancelled(self, signer: Signer, verifier: Verifier, key_id: str) -> None:
        """A request that ends while it signs or verifies leaves nothing half done that the next would stumble over."""
        (good, *_) = await sign(signer, key_id)
        for steps in range(12):
            tasks = (asyncio.create_task(sign(signer, key_id)), asyncio.create_task(judge(verifier, good)))
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            _, running = await asyncio.wait(tasks, timeout=LIMIT)
            assert not running
            (again, *_) = await sign(signer, key_id)
            for signature in (good, again):
                assert (await judge(verifier, signature)).allowed is True


def _long_texts(value: Any) -> Iterator[str]:
    """Yields digests, signatures and certificates: every text of some length, except for keys."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _long_texts(part)
    elif isinstance(value, str) and len(value) >= 64:
        yield value


def _malformed(value: Any) -> Iterator[Any]:
    """Yields the JSON value with one of its parts left out, or of every other type."""
    yield from (None, True, 1, -0.5, "", "\N{SNOWMAN}", [], {}, [None], [[]], {"a": {}})
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        changed = value.copy()
        for part in _malformed(value[key]):
            changed[key] = part
            yield changed
        del changed[key]
        yield changed


def _deep() -> Iterator[bytes]:
    """Yields JSON that is deeper than a parser's stack, whole and cut, and a number that takes long to read."""
    yield b"[" * 100_000
    yield b"[" * 100_000 + b"]" * 100_000
    yield b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield b'{"expires":' + b"9" * 200_000 + b"}"


def _manifest(config_type: str, config: bytes, layer_type: str, layer: bytes) -> dict[str, Any]:
    """Returns an ordinary manifest."""
    described = [
        {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}
        for media_type, content in ((config_type, config), (layer_type, layer))
    ]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
