"""What a judgement says of who signed and who vouches, and what a verifier says of whom it trusts."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from drift_sign_notation.config import NotationConfig, SigningConfig
from drift_sign_notation.refusal import Refused
from drift_sign_notation.verifier import load_verifier

from drift_core.api import KeyInfo, StartError, TrustStore, VerificationKey

from .artifacts import IMAGE, OTHER, cose_of, judge, judged, jws_of
from .authorities import DAY, NOW, Certified, name_of, pem

ROOT = Certified.root()
MIDDLE = ROOT.authority(ends=NOW + 9 * DAY)
SIGNER = MIDDLE.signer()
SUBJECT = "CN=signer,O=Drift\\, Test,ST=WA,C=US"


POLICY = (
    '{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"signatureVerification":'
    '{"level":"strict"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}]}'
)


def spki(public: Any) -> str:
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


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


async def test_the_stores_that_vouch(tmp_path: Path) -> None:
    other, root, middle = (
        store_of(tmp_path, name, one) for name, one in (("other", Certified.root()), ("root", ROOT), ("middle", MIDDLE))
    )
    ci = (key_of(tmp_path, "ci", SIGNER.certificate),)
    for stores, keys, names, authority in (
        ((other, root), (), ("root",), ROOT),
        ((other, middle, root), (), ("middle", "root"), MIDDLE),
        ((root, other, middle), (), ("root", "middle"), MIDDLE),
        ((other, root), ci, ("root", "ci"), SIGNER),
        ((other,), ci, ("ci",), SIGNER),
    ):
        judgement = await judged(SigningConfig(trust_stores=stores, verification_keys=keys), jws_of(SIGNER))
        assert (judgement.good, judgement.trust_stores) == (True, names)
        assert judgement.signer == f"certificate {SUBJECT}; authority {digits(authority)}"


async def test_the_stores_of_a_trust_policy_are_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    stores = tuple(store_of(tmp_path, name, one) for name, one in (("a", ROOT), ("b", MIDDLE), ("c", ROOT)))
    policy = tmp_path / "trustpolicy.json"
    policy.write_text(POLICY.replace('"ca:acme"', '"ca:b","ca:a","ca:b"'))
    config = SigningConfig(trust_stores=stores, notation=NotationConfig(trust_policy=str(policy)))
    assert (await judged(config, jws_of(SIGNER))).trust_stores == ("a", "b")


def test_nobody_vouches_is_not_a_key_that_is_trusted_by_itself() -> None:
    audited = judge(Certified.root(), jws_of(SIGNER), level="audit")
    assert (audited.good, audited.trust_stores) == (True, ("",))


@pytest.mark.parametrize("make", [jws_of, cose_of])
def test_nothing_is_said_of_who_made_a_certificate_of_its_own(make: Any) -> None:
    alone = Certified.self_signed()
    long = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x" * 50_000)])
    builder = x509.CertificateBuilder(long, long, alone.key.public_key(), 1, NOW - DAY, NOW + DAY)
    for extension in alone.certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    large = Certified(alone.key, [builder.sign(alone.key, SHA256())])
    for level, good, stores in (("strict", False, ()), ("audit", True, ("",))):
        said = judge(ROOT, make(large), level=level)
        assert (said.good, said.signer, said.fingerprint, said.self_signed) == (good, None, None, False)
        assert said.trust_stores == stores
        assert len(repr(said)) < 1000
    trusted = judge(large, make(large))
    assert (trusted.good, trusted.self_signed) == (True, True)


def test_one_key_has_one_fingerprint() -> None:
    private = SIGNER.signing_key()
    other = ROOT.authority().certify("other", SIGNER.key)
    found = {judge(ROOT, make(one)).fingerprint for make in (jws_of, cose_of) for one in (SIGNER, other)}
    assert found == {spki(SIGNER.key.public_key())} == {private.described().fingerprint}
    # The authority's is another, and so is that of another signer.
    assert judge(ROOT, jws_of(ROOT.signer())).fingerprint not in found


@pytest.mark.parametrize("make", [jws_of, cose_of])
async def test_a_key_that_is_not_trusted(tmp_path: Path, make: Any) -> None:
    store, bare = store_of(tmp_path, "acme", ROOT), tmp_path / "bare.pem"
    public = SIGNER.key.public_key()
    bare.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    certified = key_of(tmp_path, "old", SIGNER.certificate)
    pinned = key_of(tmp_path, "ci", SIGNER.certificate)
    policy = tmp_path / "trustpolicy.json"
    policy.write_text(POLICY.replace("strict", "audit"))
    assert (await judged(SigningConfig(trust_stores=(store,)), make(SIGNER))).good
    for path in (str(bare), certified.public_key_path):
        # Whatever algorithm the entry is for: the key is the same.
        for algorithm in (None, "ed25519"):
            old = VerificationKey(key_id="old", public_key_path=path, algorithm=algorithm, trusted=False)
            for trust_policy in (None, str(policy)):
                config = SigningConfig(
                    trust_stores=(store,),
                    verification_keys=(pinned, old),
                    notation=NotationConfig(trust_policy=trust_policy),
                )
                said = await judged(config, make(SIGNER))
                assert (said.good, said.reason, said.signer) == (False, "the key old is not trusted", None)
                assert (await judged(config, make(MIDDLE.signer("other")))).good
                assert path in load_verifier(config).files
    missing = VerificationKey(key_id="old", public_key_path=str(policy), trusted=False)
    with pytest.raises(StartError, match=r"trustpolicy\.json: the public key is malformed"):
        load_verifier(SigningConfig(verification_keys=(missing,)))


def test_a_reason_is_not_long() -> None:
    assert len(Refused("x" * 1000).reason) == 200


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
    policy.write_text(POLICY)
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
        KeyInfo(
            name=f"ci: {SUBJECT}",
            kind="verification key",
            fingerprint=spki(SIGNER.key.public_key()),
            expires_at=month,
        ),
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
