"""Each line of the table of what must be refused, and beside it what differs by no more than the fault and is good."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from drift_sign_notation import cose, jws, payload
from drift_sign_notation.envelope import EXPIRY, SCHEME, SIGNING_TIME
from drift_sign_notation.manifest import LARGEST, LARGEST_ENVELOPE
from drift_sign_notation.policies import default_policies
from drift_sign_notation.strictly import MOST_BRACKETS, write_base64url, write_time
from drift_sign_notation.verification import Judge
from drift_sign_notation.verifier import NotationVerifier
from msgspec.structs import replace

from drift_core.api import Digest, Signature

from .artifacts import ABSENT, IMAGE, MANIFEST, OTHER, cose_of, judge, jws_of, refusal, salted, stored
from .authorities import CODE_SIGNING, DAY, NOW, Certified

Make = Callable[..., Signature]
ROOT = Certified.root()
SIGNER = ROOT.signer(purposes=[CODE_SIGNING])
RSA = ROOT.signer("rsa", "rsa2048")
BOTH = pytest.mark.parametrize("make", [jws_of, cose_of])


def is_foreign(signature: Signature) -> bool:
    """Returns whether an artifact is left to other formats, before its blobs are read and afterwards."""
    judge = Judge(default_policies({}), frozenset(), NOW.timestamp)
    claimed = NotationVerifier(judge, (), ()).claims(signature.media_type, signature.manifest)
    judgements = judge.judge("team/app", IMAGE, signature)
    assert claimed is bool(judgements)
    return not claimed


def target(**changes: Any) -> bytes:
    content = json.loads(payload.write(IMAGE))
    content["targetArtifact"] = {
        key: value for key, value in (content["targetArtifact"] | changes).items() if value is not ABSENT
    }
    return json.dumps(content).encode()


@BOTH
@pytest.mark.parametrize("kind", ["ec256", "ec384", "ec521", "rsa2048", "rsa3072", "rsa4096"])
def test_good_ones_of_every_key(make: Make, kind: str) -> None:
    judgement = judge(ROOT, make(ROOT.signer(kind=kind)))
    assert judgement.good, judgement.reason


@BOTH
def test_another_digest(make: Make) -> None:
    assert refusal(ROOT, make(SIGNER, content=payload.write(OTHER))) == "the payload names another digest"


@BOTH
@pytest.mark.parametrize("size", [1235, ABSENT, 1234.0, "1234", True])
def test_another_size(make: Make, size: object) -> None:
    assert refusal(ROOT, make(SIGNER, content=target(size=size))) == "the payload names another size"


@BOTH
@pytest.mark.parametrize("media_type", ["application/vnd.oci.image.index.v1+json", ABSENT])
def test_another_media_type(make: Make, media_type: object) -> None:
    assert refusal(ROOT, make(SIGNER, content=target(mediaType=media_type))) == "the payload names another media type"


def test_user_metadata_is_no_fault() -> None:
    assert judge(ROOT, jws_of(SIGNER, content=target(annotations={"build": "42"}))).good


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"targetArtifact":1}',
        payload.write(IMAGE).replace(b"{", b'{"extra":1,', 1),
        payload.write(IMAGE).replace(b'"size"', b'"size":1234,"size"'),
        payload.write(IMAGE).replace(b'"size"', b'"platform":{},"size"'),
        payload.write(IMAGE) + b"{}",
        payload.write(IMAGE).decode().encode("utf-16"),
    ],
)
@BOTH
def test_malformed_payload(make: Make, content: bytes) -> None:
    assert "payload" in refusal(ROOT, make(SIGNER, content=content))


def test_payload_changed_after_signing() -> None:
    body = write_base64url(payload.write(OTHER))
    signature = jws_of(SIGNER, members={"payload": body})
    assert refusal(ROOT, signature) == "the signature is not by the key of the certificate"
    tagged = cbor2.loads(cose_of(SIGNER).blobs[0])
    parts = [*tagged.value[:2], payload.write(OTHER), tagged.value[3]]
    changed = stored(cbor2.dumps(cbor2.CBORTag(18, parts)), cose.MEDIA_TYPE)
    assert refusal(ROOT, changed) == "the signature is not by the key of the certificate"


@BOTH
def test_certificate_of_another_key(make: Make) -> None:
    other = Certified(ROOT.signer().key, SIGNER.chain)
    assert refusal(ROOT, make(other)) == "the signature is not by the key of the certificate"


def test_manifest_of_another_image() -> None:
    envelope = jws_of(SIGNER).blobs[0]
    assert refusal(ROOT, stored(envelope, jws.MEDIA_TYPE, OTHER)) == "the manifest names another digest"
    assert refusal(ROOT, stored(envelope, jws.MEDIA_TYPE, subject=None)) == "the manifest names no artifact"


@pytest.mark.parametrize("algorithm", ["none", "None", "", ABSENT, "HS256", "RS256", "es256", "EdDSA", -7, True, None])
def test_jws_algorithm(algorithm: object) -> None:
    for signer in (SIGNER, RSA):
        assert "algorithm" in refusal(ROOT, jws_of(signer, {"alg": algorithm}))


@pytest.mark.parametrize("algorithm", [0, 5, -257, "ES256", ABSENT, True, None, -8])
def test_cose_algorithm(algorithm: object) -> None:
    for signer in (SIGNER, RSA):
        assert "algorithm" in refusal(ROOT, cose_of(signer, {1: algorithm}))


def test_jws_without_a_signature() -> None:
    for algorithm in ("none", "ES256"):
        assert refusal(ROOT, jws_of(SIGNER, {"alg": algorithm}, members={"signature": ""}))


def test_algorithm_of_another_key_size() -> None:
    reason = "the algorithm is not the one that goes with the key of the certificate"
    assert refusal(ROOT, jws_of(SIGNER, {"alg": "ES384"})) == reason
    assert refusal(ROOT, jws_of(RSA, {"alg": "PS384"})) == reason
    assert refusal(ROOT, cose_of(SIGNER, {1: -35})) == reason
    assert refusal(ROOT, cose_of(RSA, {1: -38})) == reason


@BOTH
@pytest.mark.parametrize("salt", [0, 20, 31, 33, 64])
def test_salt_that_is_not_as_long_as_the_hash(make: Make, salt: int) -> None:
    assert judge(ROOT, make(RSA, sign=salted(32))).good
    assert refusal(ROOT, make(RSA, sign=salted(salt))) == "the signature is not by the key of the certificate"


@BOTH
def test_pkcs1_and_der(make: Make) -> None:
    by_pkcs1 = make(RSA, sign=lambda key, message: key.sign(message, PKCS1v15(), SHA256()))
    assert refusal(ROOT, by_pkcs1) == "the signature is not by the key of the certificate"
    der = make(SIGNER, sign=lambda key, message: key.sign(message, ECDSA(SHA256())))
    assert refusal(ROOT, der) == "the signature has the wrong length"


@pytest.mark.parametrize(
    ("critical", "reason"),
    [
        (ABSENT, "missing or malformed"),
        ([], "missing or malformed"),
        (SCHEME, "missing or malformed"),
        ([SIGNING_TIME], "has to be critical"),
        ([SCHEME, EXPIRY], "is absent"),
        ([SCHEME, "absent"], "is absent"),
        ([SCHEME, SCHEME], "malformed"),
        ([SCHEME, 1], "malformed"),
        ([SCHEME, None], "malformed"),
    ],
)
def test_critical_headers(critical: object, reason: str) -> None:
    assert reason in refusal(ROOT, jws_of(SIGNER, {"crit": critical}))
    assert reason in refusal(ROOT, cose_of(SIGNER, {2: critical}))


def test_critical_header_that_is_unknown_and_present() -> None:
    reason = "a critical header is unknown"
    assert refusal(ROOT, jws_of(SIGNER, {"crit": [SCHEME, "x"], "x": 1})) == reason
    assert refusal(ROOT, cose_of(SIGNER, {2: [SCHEME, "x"], "x": 1})) == reason
    assert judge(ROOT, jws_of(SIGNER, {"x": 1})).good
    assert judge(ROOT, cose_of(SIGNER, {"x": 1})).good


def test_verification_plugin() -> None:
    plugin = "io.cncf.notary.verificationPlugin"
    for extra, critical in (({plugin: "acme"}, [SCHEME, plugin]), ({plugin: "acme"}, [SCHEME])):
        assert "plugin" in refusal(ROOT, jws_of(SIGNER, {"crit": critical, **extra}))
        assert "plugin" in refusal(ROOT, cose_of(SIGNER, {2: critical, **extra}))


@pytest.mark.parametrize("content_type", [ABSENT, "application/json", "", 1])
def test_content_type(content_type: object) -> None:
    assert "content type" in refusal(ROOT, jws_of(SIGNER, {"cty": content_type}))
    assert "content type" in refusal(ROOT, cose_of(SIGNER, {3: content_type}))


@BOTH
@pytest.mark.parametrize("scheme", ["notary.x509.signingAuthority", "notary.x510", ABSENT, 1])
def test_signing_scheme(make: Make, scheme: object) -> None:
    assert refusal(ROOT, make(SIGNER, {SCHEME: scheme})) == "the signing scheme is missing or not supported"


@BOTH
def test_authentic_signing_time_of_the_other_scheme(make: Make) -> None:
    assert "authentic" in refusal(ROOT, make(SIGNER, {"io.cncf.notary.authenticSigningTime": "2026-11-24T21:08:00Z"}))


@pytest.mark.parametrize(
    "time", [ABSENT, "", "2026-11-24", "2026-11-24T21:08:00", "2026-13-24T21:08:00Z", 1795554480, None]
)
def test_jws_signing_time(time: object) -> None:
    assert "time is" in refusal(ROOT, jws_of(SIGNER, {SIGNING_TIME: time}))


@pytest.mark.parametrize("time", [ABSENT, 1795554480, "2026-11-24T21:08:00Z", cbor2.CBORTag(1, 1.5), None])
def test_cose_signing_time(time: object) -> None:
    assert refusal(ROOT, cose_of(SIGNER, {SIGNING_TIME: time}))


def test_cose_without_its_tag_or_with_another() -> None:
    for tag in (None, 17, 98):
        assert refusal(ROOT, cose_of(SIGNER, tag=tag)) == "the envelope is no tagged COSE_Sign1"


def expiring(after: timedelta, critical: object = (SCHEME, EXPIRY)) -> list[Signature]:
    at = NOW + after
    headers = {EXPIRY: write_time(at.timestamp()), "crit": list(critical)}  # type: ignore[call-overload]
    stamped = {EXPIRY: cbor2.CBORTag(1, int(at.timestamp())), 2: list(critical)}  # type: ignore[call-overload]
    return [jws_of(SIGNER, headers), cose_of(SIGNER, stamped)]


def test_expiry() -> None:
    hour = timedelta(hours=1)
    for signature in expiring(hour):
        assert judge(ROOT, signature).valid_until == (NOW + hour).timestamp()
        expired = judge(ROOT, signature, at=(NOW + hour).timestamp())
        assert (expired.good, expired.reason, expired.valid_until) == (False, "the signature has expired", None)
        late = judge(ROOT, signature, at=(NOW + hour).timestamp(), level="permissive")
        assert (late.good, late.warnings) == (True, ("the signature has expired",))
    for signature in expiring(hour, [SCHEME]):
        assert refusal(ROOT, signature) == "a header that has to be critical is not"
    for signature in expiring(-hour):
        assert refusal(ROOT, signature) == "the signature expires before it is made"


@BOTH
def test_time_of_the_certificates(make: Make) -> None:
    expired, future = {"begins": NOW - 2 * DAY, "ends": NOW - DAY}, {"begins": NOW + DAY, "ends": NOW + 2 * DAY}
    long = {"begins": NOW - 9 * DAY, "ends": NOW + 9 * DAY}
    for options, reason, until in (
        (expired, "has expired", None),
        (future, "is not valid yet", (NOW + DAY).timestamp()),
    ):
        for signer in (
            Certified.root(**long).signer(**options),
            Certified.root(**long).authority(**options).signer(**long),
            Certified.root(**options).signer(**long),
        ):
            assert reason in refusal(signer, make(signer))
            assert judge(signer, make(signer)).valid_until == until
            lenient = judge(signer, make(signer), level="permissive")
            assert lenient.good, lenient.reason
            assert [reason in warning for warning in lenient.warnings] == [True]
    never = Certified.root(**expired).signer(**future)
    assert "never valid at the same time" in refusal(never, make(never), level="permissive")


@BOTH
def test_untrusted_root(make: Make) -> None:
    stranger = Certified.root().signer()
    assert refusal(ROOT, make(stranger)) == "no certificate of the chain is trusted"
    assert judge(ROOT, make(stranger), level="audit").warnings == ("no certificate of the chain is trusted",)


@BOTH
def test_self_signed_signer(make: Make) -> None:
    signer = Certified.self_signed()
    assert judge(signer, make(signer)).good
    assert refusal(ROOT, make(signer)) == "no certificate of the chain is trusted"


def test_chain_that_is_not_whole_or_not_in_order() -> None:
    middle = ROOT.authority()
    signer = middle.signer()
    leaf, intermediate, root = signer.chain
    assert judge(ROOT, jws_of(signer)).good
    extra = Certified.root().certificate
    for chain in (
        [],
        [leaf],
        [leaf, intermediate],
        [leaf, root],
        [leaf, root, intermediate],
        [intermediate, leaf, root],
        [root, intermediate, leaf],
        [leaf, intermediate, root, extra],
        [leaf, intermediate, root, root],
        [leaf, intermediate, intermediate, root],
        [leaf, extra, intermediate, root],
        [leaf, leaf, intermediate, root],
    ):
        for trusted in (Certified(ROOT.key, [root]), Certified(ROOT.key, [intermediate]), Certified(ROOT.key, [leaf])):
            assert refusal(trusted, jws_of(signer, chain=chain))


def test_chain_that_is_too_long() -> None:
    issuers = [ROOT]
    while len(issuers) < 10:
        issuers.append(issuers[-1].authority(f"authority {len(issuers)}"))
    assert judge(ROOT, jws_of(issuers[-2].signer())).good
    assert "1 to 10 certificates" in refusal(ROOT, jws_of(issuers[-1].signer()))


def test_chain_that_is_issued_by_a_signer_or_forged() -> None:
    by_signer = SIGNER.signer("victim")
    assert "authority" in refusal(ROOT, jws_of(by_signer))
    # An authority of the same name as one that is trusted, but with a key of its own.
    impostor = Certified.root()
    forged = impostor.signer()
    assert "not issued by" in refusal(ROOT, jws_of(forged, chain=[forged.certificate, ROOT.certificate]))


def test_path_length() -> None:
    root = Certified.root(path_length=0)
    assert judge(root, jws_of(root.signer())).good
    assert "path" in refusal(root, jws_of(root.authority().signer()))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, "extended key usage"),
        ({"purposes": [CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]}, "extended key usage"),
        ({"purposes": [CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "extended key usage"),
        ({"purposes": [CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING]}, "extended key usage"),
        ({"purposes": [ExtendedKeyUsageOID.EMAIL_PROTECTION]}, "extended key usage"),
        ({"purposes": [ExtendedKeyUsageOID.SMARTCARD_LOGON]}, "extended key usage"),
        ({"usages": []}, "key usage of a certificate is missing"),
        ({"usage_critical": False}, "key usage of a certificate is missing or not critical"),
        ({"usages": ["content_commitment"]}, "not digitalSignature"),
        ({"usages": ["digital_signature", "key_cert_sign"]}, "not digitalSignature"),
        ({"usages": ["digital_signature", "key_agreement", "encipher_only"]}, "not digitalSignature"),
        ({"ca": True}, "one of an authority"),
    ],
)
def test_certificate_of_a_signer(options: dict[str, Any], reason: str) -> None:
    for signer in (ROOT.signer(**options), Certified.self_signed(**options)):
        assert reason in refusal(signer, jws_of(signer))


def test_signer_without_extended_key_usage_is_no_fault() -> None:
    assert judge(ROOT, jws_of(ROOT.signer(purposes=()))).good


def test_keys_that_are_too_weak_or_unknown() -> None:
    for kind in ("rsa1024", "k256"):
        signer = ROOT.signer(kind=kind)
        stated = Certified(SIGNER.key, signer.chain)
        assert "the key is neither" in refusal(ROOT, jws_of(stated))
    weak = Certified.root(kind="rsa1024").signer()
    assert "fewer than 2048 bits" in refusal(weak, jws_of(weak))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ca": False}, "an issuer in the chain is no authority"),
        ({"usages": []}, "the key usage of a certificate is missing or not critical"),
        ({"usages": ["crl_sign"]}, "the key usage of an authority lacks keyCertSign"),
        ({"usage_critical": False}, "the key usage of a certificate is missing or not critical"),
    ],
)
def test_certificate_of_an_authority(options: dict[str, Any], reason: str) -> None:
    for root in (Certified.root(**options), ROOT.authority(**options)):
        assert refusal(root, jws_of(root.signer())) == reason


def test_certificate_by_sha1() -> None:
    # cryptography signs no certificate by SHA-1 any more: the name of the algorithm is changed where it is, twice.
    leaf = RSA_ISSUED.certificate.public_bytes(Encoding.DER)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert leaf.count(sha256) == 2
    broken = x509.load_der_x509_certificate(leaf.replace(sha256, sha1))
    assert isinstance(broken.signature_hash_algorithm, SHA1)
    chain = [broken, *RSA_ISSUED.chain[1:]]
    assert "algorithm that is not allowed" in refusal(RSA_ROOT, jws_of(RSA_ISSUED, chain=chain))


RSA_ROOT = Certified.root(kind="rsa2048")
RSA_ISSUED = RSA_ROOT.signer()


def test_revoked() -> None:
    middle = ROOT.authority()
    signer = middle.signer()
    for certificate, issuer in zip(signer.chain[:-1], (middle, ROOT), strict=True):
        revoked = frozenset({(issuer.certificate.subject, certificate.serial_number)})
        assert refusal(ROOT, jws_of(signer), revoked=revoked) == "a certificate of the chain is revoked"
        lenient = judge(ROOT, jws_of(signer), level="permissive", revoked=revoked)
        assert lenient.warnings == ("a certificate of the chain is revoked",)
    other = frozenset({(Certified.root("other").certificate.subject, signer.certificate.serial_number)})
    assert judge(ROOT, jws_of(signer), revoked=other).good


@BOTH
def test_trusted_identities(make: Make) -> None:
    good = ["x509.subject: C=US, ST=WA, O=Drift\\, Test", "x509.subject:C=US,S=WA,O=Drift\\, Test,CN=signer"]
    bad = ["x509.subject: C=US, ST=WA, O=Drift", "x509.subject: C=US, ST=WA, O=Drift\\, Test, CN=sign"]
    for identity in good:
        assert judge(ROOT, make(SIGNER), identities=[bad[0], identity]).good
    for identity in bad:
        reason = refusal(ROOT, make(SIGNER), identities=[identity])
        assert reason == "the subject of the certificate is no trusted identity"


def test_several_layers_or_none() -> None:
    signature = jws_of(SIGNER)
    (layer,) = json.loads(signature.manifest)["layers"]
    for layers in ([layer, layer], [], None, [1], ABSENT):
        assert "one layer" in refusal(ROOT, stored(signature.blobs[0], jws.MEDIA_TYPE, layers=layers))


def test_both_layouts_of_the_manifest() -> None:
    envelope = jws_of(SIGNER).blobs[0]
    kind = "application/vnd.cncf.notary.signature"
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    assert judge(ROOT, stored(envelope, jws.MEDIA_TYPE, artifactType=kind, config=empty)).good
    for changes in ({"artifactType": "x"}, {"config": empty}):
        assert is_foreign(stored(envelope, jws.MEDIA_TYPE, **changes))


def test_duplicate_members() -> None:
    signature = jws_of(SIGNER)
    twice = replace(signature, manifest=signature.manifest.replace(b"{", b'{"layers":[],', 1))
    assert refusal(ROOT, twice) == "the manifest is malformed JSON, or has a member twice"
    envelope = signature.blobs[0].replace(b"{", b'{"payload":"",', 1)
    assert refusal(ROOT, stored(envelope, jws.MEDIA_TYPE)) == "the envelope is malformed JSON, or has a member twice"
    headed = jws_of(SIGNER, encoded=lambda value: json.dumps(value).replace("{", '{"alg":"none",', 1).encode())
    assert refusal(ROOT, headed) == "the protected header is malformed JSON, or has a member twice"


def test_other_members() -> None:
    for members in ({"extra": 1}, {"header": ABSENT}, {"payload": ABSENT}, {"signatures": []}):
        assert "members" in refusal(ROOT, jws_of(SIGNER, members=members))
    for header in ({}, [], None, {"x5c": "x"}, {"x5c": []}):
        assert "certificates are missing" in refusal(ROOT, jws_of(SIGNER, members={"header": header}))


def standard(signer: Certified) -> str:
    return b64encode(signer.certificate.public_bytes(Encoding.DER)).decode()


def test_spellings_of_base64() -> None:
    envelope = json.loads(jws_of(SIGNER).blobs[0])
    for member in ("payload", "protected", "signature"):
        text = envelope[member]
        others = [f"{text}=", f"{text} ", f"{text}\n", f" {text}", text[:-1], "é", None, 1]
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if len(text) % 4:
            # The last letter has bits that mean nothing, and have to be 0.
            others.append(text[:-1] + letters[letters.index(text[-1]) + 1])
        for other in others:
            assert "base64url" in refusal(ROOT, jws_of(SIGNER, members={member: other}))
    der, root = standard(SIGNER), standard(ROOT)
    for other in (
        f"{der}\n",
        f" {der}",
        der.replace("=", "") + "====",
        None,
        der.replace("+", "-").replace("/", "_") + "-",
    ):
        assert "base64" in refusal(ROOT, jws_of(SIGNER, members={"header": {"x5c": [other, root]}}))
    # Behind a certificate whose length is no multiple of 3 there are bits, too.
    padded = next(text for text in (standard(ROOT.signer("x" * n)) for n in range(1, 60)) if text.endswith("="))
    bare = padded.rstrip("=")
    spelled = bare[:-1] + chr(ord(bare[-1]) + 1) + padded[len(bare) :]
    assert "base64" in refusal(ROOT, jws_of(SIGNER, members={"header": {"x5c": [spelled, root]}}))


def test_spellings_of_cbor() -> None:
    whole = cose_of(SIGNER).blobs[0]
    assert whole.startswith(b"\xd2\x84\x58")
    assert whole.count(b"\xa1\x18\x21") == 1
    for other in (
        whole + b"\0",
        whole[:-1],
        b"\xd8" + bytes([18]) + whole[1:],
        b"\xd2\x9f" + whole[2:] + b"\xff",
        b"\xd8\x23\x61(",
        whole.replace(b"\xa1\x18\x21", b"\xa2\x18\x22\0\x18\x21").replace(b"\x18\x22", b"\x18\x21"),
        whole.replace(b"\xa1\x18\x21", b"\xa2\x61x\xd8\x23\x61a\x18\x21"),
        b"\xd2\x84\xd8\x23\x61(\xa0\x40\x40",
        b"\x81" * 900,
        b"",
    ):
        reason = refusal(ROOT, stored(other, cose.MEDIA_TYPE))
        assert reason == "the envelope is malformed CBOR, or not in its shortest form"


def test_cose_headers() -> None:
    certificates = [one.public_bytes(Encoding.DER) for one in SIGNER.chain]
    for value in (ABSENT, certificates[0], [], ["x"], {}):
        assert "certificates are missing" in refusal(ROOT, cose_of(SIGNER, unprotected={33: value}))
    assert "at once" in refusal(ROOT, cose_of(SIGNER, unprotected={1: -7}))
    tagged = cbor2.loads(cose_of(SIGNER).blobs[0])
    for parts in (tagged.value[:3], [*tagged.value[:2], None, tagged.value[3]], {}, [*tagged.value, 1]):
        detached = cbor2.dumps(cbor2.CBORTag(18, parts))
        assert "no COSE_Sign1" in refusal(ROOT, stored(detached, cose.MEDIA_TYPE))


def test_certificate_of_an_unknown_version() -> None:
    der = SIGNER.certificate.public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert der.count(version) == 1
    unknown = b64encode(der.replace(version, version[:-1] + b"\x09")).decode()
    assert refusal(ROOT, jws_of(SIGNER, members={"header": {"x5c": [unknown]}})) == "a certificate is malformed"


def test_certificates_that_are_none() -> None:
    assert "malformed" in refusal(ROOT, jws_of(SIGNER, members={"header": {"x5c": ["AAAA"]}}))
    assert "malformed" in refusal(ROOT, cose_of(SIGNER, unprotected={33: [b"\0\0\0"]}))


def test_sizes() -> None:
    signature = jws_of(SIGNER)
    whole = replace(signature, manifest=signature.manifest.ljust(LARGEST))
    assert judge(ROOT, whole).good
    # Without reading it nobody knows what it is, so that it is no signature at all.
    assert is_foreign(replace(whole, manifest=whole.manifest + b" "))
    envelope = signature.blobs[0].ljust(LARGEST_ENVELOPE)
    assert judge(ROOT, stored(envelope, jws.MEDIA_TYPE)).good
    assert "larger than 256 KiB" in refusal(ROOT, stored(envelope + b" ", jws.MEDIA_TYPE))
    (layer,) = json.loads(signature.manifest)["layers"]
    for size in (LARGEST_ENVELOPE + 1, True, None, "1"):
        huge = stored(signature.blobs[0], jws.MEDIA_TYPE, layers=[layer | {"size": size}])
        assert "larger than 256 KiB" in refusal(ROOT, huge)
    for blobs in ((), (b"{}",), (jws_of(SIGNER).blobs[0],)):
        assert "missing" in refusal(ROOT, replace(signature, blobs=blobs))


def test_too_many_brackets() -> None:
    signature = jws_of(SIGNER)
    for brackets, good in ((b"[" * (MOST_BRACKETS - 3), True), (b"{" * (MOST_BRACKETS - 2), False)):
        # Within a text they are none, but to know that is to parse it.
        envelope = signature.blobs[0].replace(b'"header": {', b'"header": {"x": "%s", ' % brackets)
        judgement = judge(ROOT, stored(envelope, jws.MEDIA_TYPE))
        assert (judgement.good, judgement.reason) == (good, "" if good else "it is nested too much")
    brackets = b'{"x":"%s",' % (b"[" * MOST_BRACKETS)
    assert is_foreign(replace(signature, manifest=signature.manifest.replace(b"{", brackets, 1)))
    payload_of = b'{"x":[%s1]}' % (b"[]," * 55_000)
    assert refusal(ROOT, jws_of(SIGNER, content=payload_of)) == "it is nested too much"


def test_too_many_items() -> None:
    for headers, good in ((900, True), (1100, False)):
        # The decoder would make something of each.
        made = cose_of(SIGNER, {"x": [1] * headers})
        judgement = judge(ROOT, made)
        assert (judgement.good, judgement.reason) == (good, "" if good else "it is nested too much")
    for item in (b"\x80", b"\x81", b"\xa0", b"\x61x", b"\x18\x20", b"\xfb" + bytes(8), b"\x5f"):
        many = b"\xd2\x9a" + (1 << 15).to_bytes(4) + item * (1 << 15)
        assert refusal(ROOT, stored(many[:LARGEST_ENVELOPE], cose.MEDIA_TYPE)) == "it is nested too much"


@pytest.mark.parametrize("media_type", [jws.MEDIA_TYPE, cose.MEDIA_TYPE])
def test_nested_megabytes_are_not_parsed(media_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbor2, "loads", None)
    envelope = b'{"payload":[' + b"[]," * ((4 << 20) // 3)
    assert "larger than 256 KiB" in refusal(ROOT, stored(envelope, media_type))


def test_other_kinds_of_manifest() -> None:
    envelope = jws_of(SIGNER).blobs[0]
    for changes in ({"schemaVersion": 1}, {"schemaVersion": ABSENT}, {"mediaType": "application/vnd.x"}):
        assert refusal(ROOT, stored(envelope, jws.MEDIA_TYPE, **changes)) == "the manifest is no image manifest"
    assert judge(ROOT, stored(envelope, jws.MEDIA_TYPE, mediaType=ABSENT)).good


def test_unknown_media_type_of_the_envelope() -> None:
    assert "unknown media type" in refusal(ROOT, stored(jws_of(SIGNER).blobs[0], "application/json"))
    # Nor may one format be taken for the other.
    assert refusal(ROOT, stored(jws_of(SIGNER).blobs[0], cose.MEDIA_TYPE))
    assert refusal(ROOT, stored(cose_of(SIGNER).blobs[0], jws.MEDIA_TYPE))


def test_what_is_of_another_format() -> None:
    for media_type, content in (
        (MANIFEST, b"{}"),
        (MANIFEST, b'"application/vnd.cncf.notary.signature"'),
        (MANIFEST, b'{"config":1,"x":"application/vnd.cncf.notary.signature"}'),
        (MANIFEST, b"application/vnd.cncf.notary.signature"),
        ("application/vnd.oci.image.index.v1+json", jws_of(SIGNER).manifest),
    ):
        assert is_foreign(Signature(media_type, content))
