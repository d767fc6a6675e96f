"""What a judgement says of who signed and who vouches, and what a verifier says of whom it trusts."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from drift_sign_notation.config import NotationConfig, SigningConfig
from drift_sign_notation.verifier import load_verifier

from drift_core.api import KeyInfo, TrustStore, VerificationKey

from .artifacts import IMAGE, OTHER, judge, judged, jws_of
from .authorities import DAY, NOW, Certified, name_of, pem

ROOT = Certified.root()
MIDDLE = ROOT.authority(ends=NOW + 9 * DAY)
SIGNER = MIDDLE.signer()
SUBJECT = "CN=signer,O=Drift\\, Test,ST=WA,C=US"


def digits(certified: Certified) -> str:
    return certified.certificate.fingerprint(SHA256()).hex()[:16]


def store_of(folder: Path, name: str, *trusted: Certified) -> TrustStore:
    path = folder / f"{name}.pem"
    path.write_bytes(pem(*(one.certificate for one in trusted)))
    return TrustStore(name=name, root_certificate_paths=(str(path),))


def key_of(folder: Path, key_id: str, certificate: x509.Certificate) -> VerificationKey:
    path = folder / f"{key_id}.pem"
    path.write_bytes(pem(certificate))
    return VerificationKey(key_id=key_id, public_key_path=str(path), certificate_path=str(path))


def test_a_signer_is_a_subject_of_an_authority() -> None:
    good = judge(ROOT, jws_of(SIGNER))
    assert good.signer == f"certificate {SUBJECT}; authority {digits(ROOT)}"
    renewed = judge(ROOT, jws_of(ROOT.authority().signer(kind="ec384")))
    assert (renewed.good, renewed.signer) == (True, good.signer)
    namesake = Certified.root()
    assert judge(namesake, jws_of(namesake.signer())).signer == f"certificate {SUBJECT}; authority {digits(namesake)}"


async def test_a_signer_counts_once_whatever_it_puts_above_what_is_trusted(tmp_path: Path) -> None:
    config = SigningConfig(verification_keys=(key_of(tmp_path, "ci", SIGNER.certificate),))
    # Whoever likes can certify the key of an authority once more, by a root of its own.
    made = Certified.root("made up")
    again = (
        x509.CertificateBuilder(
            made.certificate.subject, name_of("intermediate"), MIDDLE.key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    for extension in MIDDLE.certificate.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            again = again.add_extension(extension.value, extension.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(made.key.public_key())
    crossed = again.add_extension(identifier, critical=False).sign(made.key, SHA256())
    signers = set()
    for chain in (SIGNER.chain, (SIGNER.certificate, crossed, made.certificate)):
        judgement = await judged(config, jws_of(SIGNER, chain=chain))
        assert judgement.good, judgement.reason
        signers.add(judgement.signer)
    assert signers == {f"certificate {SUBJECT}; authority {digits(SIGNER)}"}


async def test_the_store_that_vouches(tmp_path: Path) -> None:
    other, root, middle = (
        store_of(tmp_path, name, one) for name, one in (("other", Certified.root()), ("root", ROOT), ("middle", MIDDLE))
    )
    for stores, name, authority in (
        ((other, root), "root", ROOT),
        ((other, middle, root), "middle", MIDDLE),
        ((other, root, middle), "root", MIDDLE),
    ):
        judgement = await judged(SigningConfig(trust_stores=stores), jws_of(SIGNER))
        assert (judgement.good, judgement.trust_store) == (True, name)
        assert judgement.signer == f"certificate {SUBJECT}; authority {digits(authority)}"


def test_nobody_vouches_is_not_a_key_that_is_trusted_by_itself() -> None:
    audited = judge(Certified.root(), jws_of(SIGNER), level="audit")
    assert (audited.good, audited.trust_store) == (True, "")


def test_self_signed() -> None:
    alone = Certified.self_signed()
    for signer, root, self_signed in ((alone, alone, True), (SIGNER, ROOT, False)):
        judgement = judge(root, jws_of(signer))
        assert (judgement.good, judgement.self_signed) == (True, self_signed)


def test_a_refusal_says_what_is_proven_all_the_same() -> None:
    late = judge(ROOT, jws_of(SIGNER), at=(NOW + 10 * DAY).timestamp())
    assert (late.good, late.algorithm, late.signed_at) == (False, "ecdsa-p256-sha256", NOW.timestamp())
    assert late.signer == f"certificate {SUBJECT}; authority {digits(ROOT)}"
    unproven = judge(ROOT, jws_of(SIGNER), OTHER)
    assert (unproven.signer, unproven.algorithm, unproven.signed_at) == (None, None, None)


def test_what_the_verifier_says_of_its_keys(tmp_path: Path) -> None:
    policy = tmp_path / "trustpolicy.json"
    policy.write_text(
        '{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"signatureVerification":'
        '{"level":"strict"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}]}'
    )
    store, key = store_of(tmp_path, "acme", ROOT, MIDDLE), key_of(tmp_path, "ci", SIGNER.certificate)
    config = SigningConfig(
        trust_stores=(store,), verification_keys=(key,), notation=NotationConfig(trust_policy=str(policy))
    )
    verifier = load_verifier(config)
    month = (NOW + 30 * DAY).timestamp()
    name = SUBJECT.partition(",")[2]
    assert list(verifier.keys()) == [
        KeyInfo(name=f"acme: CN=root,{name}", kind="authority", expires_at=month),
        KeyInfo(name=f"acme: CN=intermediate,{name}", kind="authority", expires_at=(NOW + 9 * DAY).timestamp()),
        KeyInfo(name=f"ci: {SUBJECT}", kind="verification key", expires_at=month),
    ]
    assert set(verifier.files) == {*store.root_certificate_paths, key.certificate_path, str(policy)}


def test_a_verification_key_of_another_format_is_left_to_it(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    name = name_of("other format")
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, NOW - DAY, NOW + DAY)
    key = key_of(tmp_path, "other", builder.sign(private, None))
    assert list(load_verifier(SigningConfig(verification_keys=(key,))).keys()) == []


@pytest.mark.parametrize("trusted", [True, False])
async def test_claims_without_reading_blobs(tmp_path: Path, trusted: bool) -> None:
    verifier = load_verifier(SigningConfig(trust_stores=(store_of(tmp_path, "acme", ROOT),) if trusted else ()))
    signature = jws_of(SIGNER)
    assert verifier.claims(signature.media_type, signature.manifest)
    assert not verifier.claims("application/vnd.oci.image.index.v1+json", signature.manifest)
    assert [one.good for one in await verifier.judge("team/app", IMAGE, signature)] == [trusted]
