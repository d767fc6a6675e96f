"""What the real cosign stored is judged as it should be, and what is written here is what cosign would store."""

import json
from base64 import b64decode

import pytest
from cryptography import x509
from drift_sign_cosign import bundle, legacy
from drift_sign_cosign.algorithms import fingerprint
from drift_sign_cosign.certificates import read_pem
from drift_sign_cosign.encoding import write_base64, write_json
from drift_sign_cosign.keys import read_public_key
from drift_sign_cosign.statement import SIGNED
from drift_sign_cosign.trust import Trust
from drift_sign_cosign.verification import claims
from msgspec.structs import replace

from drift_core.api import Digest

from .conftest import ANYWHERE, CLI, IMAGE, NOW, artifact, configured, judged, judgements, trusting, vouching

KEYS = {
    "cosign-v2-bundle-sign": ("cosign", "ecdsa-p256-sha256"),
    "cosign-v2-legacy-sig": ("cosign", "ecdsa-p256-sha256"),
    "cosign-v3-bundle-sign": ("cosign", "ecdsa-p256-sha256"),
    "cosign-v3-bundle-ec256": ("ec256", "ecdsa-p256-sha256"),
    "cosign-v3-legacy-ec256": ("ec256", "ecdsa-p256-sha256"),
    "cosign-v3-bundle-ec384": ("ec384", "ecdsa-p384-sha384"),
    "cosign-v3-legacy-ec384": ("ec384", "ecdsa-p384-sha384"),
    "cosign-v3-bundle-rsa2048": ("rsa2048", "rsa-pkcs1-sha256"),
    "cosign-v3-legacy-rsa2048": ("rsa2048", "rsa-pkcs1-sha256"),
    "cosign-v3-bundle-rsa4096": ("rsa4096", "rsa-pkcs1-sha256"),
    "cosign-v3-legacy-rsa4096": ("rsa4096", "rsa-pkcs1-sha256"),
}
ED25519 = ("cosign-v3-bundle-ed25519", "cosign-v3-legacy-ed25519")
ATTESTATIONS = (
    "cosign-v2-legacy-att",
    "cosign-v3-legacy-att",
    "cosign-v3-bundle-attest-custom",
    "cosign-v3-bundle-attest-slsa",
)
CERTIFIED = ("cosign-v3-bundle-certchain", "cosign-v3-legacy-cert")


def cert_root() -> Trust:
    (root,) = read_pem((CLI / "keys/cert-root.pem").read_bytes())
    return vouching(root)


@pytest.mark.parametrize("name", KEYS)
def test_a_key(name: str) -> None:
    key, algorithm = KEYS[name]
    judgement = judged(trusting("other", key), artifact(name), config=ANYWHERE)
    assert (judgement.good, judgement.reason) == (True, "")
    assert (judgement.key_id, judgement.algorithm, judgement.trust_stores) == (key, algorithm, ())
    assert (judgement.self_signed, judgement.valid_until, judgement.signed_at) == (False, None, None)
    public = read_public_key((CLI / "keys" / f"{key}.pub").read_bytes())
    assert judgement.signer == f"key {fingerprint(public).hex()}"


@pytest.mark.parametrize("name", [*KEYS, *ED25519])
def test_another_key(name: str) -> None:
    judgement = judged(trusting("other"), artifact(name), config=ANYWHERE)
    assert (judgement.good, judgement.reason) == (False, "no trusted key has made the signature")
    assert (judgement.key_id, judgement.signer) == (None, None)


@pytest.mark.parametrize("name", ED25519)
def test_ed25519ph(name: str) -> None:
    pytest.importorskip("nacl")
    judgement = judged(trusting("ed25519"), artifact(name), config=ANYWHERE)
    assert (judgement.good, judgement.algorithm) == (True, "ed25519ph")


@pytest.mark.parametrize("name", ED25519)
def test_ed25519ph_without_pynacl(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no signature by Ed25519 itself."""
    monkeypatch.setattr("drift_sign_cosign.algorithms.optional", lambda _: None)
    assert not judged(trusting("ed25519"), artifact(name), config=ANYWHERE).good


@pytest.mark.parametrize("name", CERTIFIED)
def test_a_certificate(name: str) -> None:
    judgement = judged(cert_root(), artifact(name), config=ANYWHERE)
    assert (judgement.good, judgement.reason) == (True, "")
    assert (judgement.signer, judgement.key_id) == ("identity ci@drift.example", None)
    assert (judgement.trust_stores, judgement.self_signed) == (("default",), False)
    ends = x509.load_pem_x509_certificate((CLI / "keys/cert-root.pem").read_bytes()).not_valid_after_utc.timestamp()
    assert judgement.valid_until is not None
    assert NOW < judgement.valid_until <= ends


@pytest.mark.parametrize("name", CERTIFIED)
@pytest.mark.parametrize(
    ("now", "reason"),
    [(1795500000, "the certificate is not yet valid"), (1827100000, "the certificate has expired")],
)
def test_a_certificate_at_another_time(name: str, now: float, reason: str) -> None:
    judgement = judged(cert_root(), artifact(name), config=ANYWHERE, now=now)
    assert (judgement.good, judgement.reason) == (False, reason)


@pytest.mark.parametrize("name", ATTESTATIONS)
def test_an_attestation_is_left_to_others(name: str) -> None:
    made = artifact(name)
    for trusted in (trusting("cosign"), trusting("other"), Trust()):
        assert judgements(trusted, made, config=ANYWHERE) == []
    # Of a bundle only its blob says what it is.
    assert claims(made.media_type, made.manifest) is ("bundle" in name)


@pytest.mark.parametrize("name", [*KEYS, *CERTIFIED])
def test_a_signature_is_claimed(name: str) -> None:
    made = artifact(name)
    assert claims(made.media_type, made.manifest)
    assert not claims("application/vnd.oci.image.index.v1+json", made.manifest)
    assert judgements(Trust(), replace(made, media_type="application/vnd.oci.image.index.v1+json")) == []
    assert not claims(made.media_type, b"{" + made.manifest)


def test_two_signatures_by_one_key() -> None:
    """They are two, and their signer is one."""
    both = judgements(trusting("cosign"), artifact("cosign-v3-legacy-sig-2layers"), config=ANYWHERE)
    assert [judgement.good for judgement in both] == [True, True]
    assert len({judgement.signer for judgement in both}) == 1


def test_the_repository() -> None:
    name = artifact("cosign-v2-legacy-sig")
    for config in (configured(), configured("127.0.0.1:15500")):
        assert judged(trusting("cosign"), name, repository="demo/v2", config=config).good
    for repository, config in (
        ("demo/v2", configured("registry.example")),
        ("v2", configured()),
        ("15500/demo/v2", configured()),
    ):
        judgement = judged(trusting("cosign"), name, repository=repository, config=config)
        assert judgement.reason == "it was signed for another repository"
        # Who signed is known, so that the refusal can be explained.
        assert judgement.key_id == "cosign"


@pytest.mark.parametrize("name", ["cosign-v3-legacy-sig-2layers", "cosign-v3-legacy-cert", "cosign-v2-legacy-sig"])
def test_the_older_layout_is_written_byte_for_byte(name: str) -> None:
    made = artifact(name)
    existing = None
    for layer, payload in zip(json.loads(made.manifest)["layers"], made.blobs, strict=True):
        annotations = layer["annotations"]
        chain = (
            [x509.load_pem_x509_certificate(annotations[legacy.CERTIFICATE].encode())] if len(annotations) > 1 else []
        )
        written = legacy.append(
            existing,
            f"sha256-{Digest.parse(IMAGE.digest).encoded}.sig",
            payload,
            b64decode(annotations[legacy.SIGNATURE]),
            chain,
        )
        existing = written.manifest
    assert existing == made.manifest
    assert written.blobs == (made.blobs[-1], (CLI / name / "config.json").read_bytes())
    assert written.tag == legacy.tag_of(IMAGE.digest)


def test_a_payload_is_written_byte_for_byte() -> None:
    """But for the time, of which cosign says nothing."""
    payload = artifact("cosign-v3-legacy-sig-2layers").blobs[0]
    written = legacy.write_payload("127.0.0.1:15500/demo/leg", IMAGE.digest, {"team": "x", "env": "prod"}, NOW)
    assert written.replace(b',"timestamp":%d' % NOW, b"") == payload


def test_a_bundle_is_written_byte_for_byte() -> None:
    made = artifact("cosign-v3-bundle-sign")
    envelope = json.loads(made.blobs[0])["dsseEnvelope"]
    key = read_public_key((CLI / "keys/cosign.pub").read_bytes())
    signature = b64decode(envelope["signatures"][0]["sig"])
    created = 1795554664
    written = bundle.write_artifact(IMAGE, b64decode(envelope["payload"]), signature, key, created)
    assert written.blobs[0] == made.blobs[0]
    expected = json.loads(made.manifest)
    # cosign has this by mistake.
    del expected["config"]["artifactType"]
    assert json.loads(written.manifest) == expected | {
        "annotations": expected["annotations"] | {"org.opencontainers.image.created": "2026-11-24T21:11:04Z"}
    }
    assert expected["annotations"]["dev.sigstore.bundle.predicateType"] == SIGNED
    assert write_base64(fingerprint(key)).encode() in written.blobs[0]
    assert write_json(json.loads(written.manifest)) == written.manifest
