"""The signing suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

import json
from base64 import b64encode, urlsafe_b64encode

import pytest
from msgspec.structs import replace

from drift_core.api import Digest, Signature, Verifier
from drift_core.conformance import SigningSuite
from drift_core.conformance.mutants.signing import MUTANTS
from drift_core.conformance.reference.signing import HmacSigning
from drift_core.conformance.suites.signing import IMAGE, MIB, OTHER, REPOSITORY, Sample, about, forged, sign
from tests.conformance.mutation import failed_rules

KEYS = {"release": b"k" * 32}


def spelt_otherwise(signature: Signature) -> Signature:
    """Returns the same artifact as another client might write it."""
    manifest = json.dumps(json.loads(signature.manifest), indent=3, sort_keys=True)
    return replace(signature, manifest=manifest.encode())


class InMemory(SigningSuite):
    """InMemory but the signer and the verifier, which are mutants or the reference."""

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    async def expired(self) -> Sample:
        (signature,) = await HmacSigning(KEYS, lifetime=-1.0).sign(REPOSITORY, IMAGE, "release")
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    async def samples(self, signer: HmacSigning) -> list[Sample]:
        return [(REPOSITORY, IMAGE, spelt_otherwise(signature)) for signature in await sign(signer, "release")]

    @pytest.fixture
    def without_trust_root(self, verifier: HmacSigning) -> tuple[Verifier, bool | None]:
        verifier.reachable = False
        return verifier, False


class Opened:
    """Opens a mutant, or the reference."""

    kind = HmacSigning

    @pytest.fixture
    def signer(self) -> HmacSigning:
        return self.kind(KEYS)

    @pytest.fixture
    def stranger(self) -> HmacSigning:
        return self.kind({"release": b"x" * 32})

    @pytest.fixture
    def verifier(self) -> HmacSigning:
        return self.kind(KEYS)


class TestReference(Opened, InMemory):
    """The reference passes."""


class Quick(InMemory):
    """Fewer bytes, because a mutant for each rule runs it."""

    large = 4 * MIB


@pytest.mark.parametrize("encode", [bytes, b64encode, urlsafe_b64encode, lambda text: b64encode(text).rstrip(b"=")])
@pytest.mark.parametrize("before", [b'{"digest":"', b'{ "digest":"', b'{"a":"\xff\xfe??>>","digest":"'])
def test_forged(encode: "object", before: bytes) -> None:
    """A digest is found within base64 too, wherever it begins."""
    old, new = (Digest.parse(descriptor.digest).encoded.encode() for descriptor in (IMAGE, OTHER))
    texts = [b'["' + encode(before + digest + b'"}') + b'","unchanged"]' for digest in (old, new)]  # type: ignore[operator]
    assert forged(texts[0], old, new) == texts[1]


async def test_about() -> None:
    """What is forged is a whole artifact: otherwise the rule would be about damage."""
    (signature,) = await HmacSigning(KEYS).sign(REPOSITORY, IMAGE, "release")
    forgery = about(signature, IMAGE, OTHER)
    manifest = json.loads(forgery.manifest)
    assert manifest["subject"]["digest"] == OTHER.digest
    assert manifest["layers"][0]["digest"] == Digest.of(forgery.blobs[0])
    assert json.loads(forgery.blobs[0])["digest"] == OTHER.digest


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in SigningSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(Quick, mutant) == {rule}
