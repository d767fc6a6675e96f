"""What must be refused: the lines about cosign of the signing note's section 10, in both layouts."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from drift_sign_cosign import algorithms, bundle, legacy
from drift_sign_cosign.artifact import LARGEST_BLOB, LARGEST_MANIFEST, MOST_SIGNATURES
from drift_sign_cosign.certificates import ISSUER_V1, ISSUER_V2, Store
from drift_sign_cosign.config import TrustedIdentity
from drift_sign_cosign.dsse import IN_TOTO, pae
from drift_sign_cosign.encoding import MOST_BRACKETS
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.revocation import RevocationList
from drift_sign_cosign.statement import check_signed, write_statement
from drift_sign_cosign.trust import Trust
from drift_sign_cosign.verification import claims
from msgspec.structs import replace

from drift_core.api import Denied, Descriptor, Digest, Judgement, Signature

from .conftest import (
    DAY,
    IMAGE,
    NOW,
    OTHER,
    REPOSITORY,
    Authority,
    at,
    configured,
    judged,
    judgements,
    private_key,
    pushed,
    signer,
    trust,
    vouching,
)

LAYOUTS = ("bundle", "legacy")
KEY = private_key("p256")
DIGEST = "another digest was signed"
SUBJECT = "the manifest has another subject"
NOBODY = "no trusted key has made the signature"


async def signed(layout: str, subject: Descriptor = IMAGE, **options: Any) -> Signature:
    (signature,) = await signer(layout, **options).sign(REPOSITORY, subject, "release")
    return signature


def said(payload: bytes, key: Any = KEY, message: bytes | None = None, kind: str = IN_TOTO) -> Signature:
    """Returns a bundle that says something, signed."""
    signature = algorithms.sign(key, pae(kind, payload) if message is None else message)
    made = bundle.write_artifact(IMAGE, payload, signature, key.public_key(), NOW)
    return pushed(made, made.blobs[0].replace(IN_TOTO.encode(), kind.encode()))


def said_before(payload: bytes, key: Any = KEY) -> Signature:
    """Returns an artifact of the older layout that says something, signed."""
    return legacy.append(None, "tag", payload, algorithms.sign(key, payload), ())


def statement(change: Callable[[Any], None]) -> bytes:
    node = json.loads(write_statement(IMAGE, {}, NOW))
    change(node)
    return json.dumps(node).encode()


def payload(change: Callable[[Any], None]) -> bytes:
    node = json.loads(legacy.write_payload(f"registry.example/{REPOSITORY}", IMAGE.digest, {}, NOW))
    change(node)
    return json.dumps(node).encode()


def refused(judgement: Judgement, reason: str) -> None:
    assert (judgement.good, judgement.reason) == (False, reason)


def test_what_is_not_changed_is_good() -> None:
    """Each case below is one change of this."""
    for made in (said(statement(lambda _: None)), said_before(payload(lambda _: None))):
        judgement = judged(trust(), made)
        assert (judgement.good, judgement.reason, judgement.signed_at) == (True, "", NOW)


async def test_another_digest() -> None:
    made = await signed("legacy")
    refused(judged(trust(), made, OTHER), DIGEST)
    made = await signed("bundle")
    refused(judged(trust(), made, OTHER), SUBJECT)
    # Somebody without the key attaches it to the other image.
    manifest = json.loads(made.manifest)
    manifest["subject"]["digest"] = OTHER.digest
    refused(judged(trust(), replace(made, manifest=json.dumps(manifest).encode()), OTHER), DIGEST)


def test_any_subject_of_a_statement_counts() -> None:
    other = {"digest": {"sha256": Digest.parse(OTHER.digest).encoded}}
    assert judged(trust(), said(statement(lambda node: node["subject"].insert(0, other)))).good
    refused(judged(trust(), said(statement(lambda node: node.update(subject=[other])))), DIGEST)
    refused(judged(trust(), said(statement(lambda node: node.update(subject=[])))), DIGEST)


@pytest.mark.parametrize(
    "change", [{"size": IMAGE.size + 1}, {"media_type": "application/vnd.oci.image.index.v1+json"}]
)
async def test_another_size_or_media_type(change: dict[str, Any]) -> None:
    refused(judged(trust(), await signed("bundle"), replace(IMAGE, **change)), SUBJECT)


async def test_another_repository() -> None:
    made = await signed("legacy", registry_name="registry.example")
    for config in (configured(), configured("registry.example")):
        assert judged(trust(), made, config=config).good
        refused(judged(trust(), made, repository="team/other", config=config), "it was signed for another repository")
    refused(judged(trust(), made, config=configured("other.example")), "it was signed for another repository")
    refused(judged(trust(), made, repository="app"), "it was signed for another repository")
    # Without a host, what stands first is a part of the repository's name.
    bare = await signed("legacy")
    assert judged(trust(), bare).good
    refused(judged(trust(), bare, repository="app"), "it was signed for another repository")
    for host in ("localhost", "registry.example", "registry:5000"):
        assert judged(trust(), await signed("legacy", registry_name=host)).good
    assert judged(
        trust(), made, repository="team/other", config=configured("other.example", docker_reference="ignore")
    ).good


@pytest.mark.parametrize("kind", ["atomic container signature", "Cosign container image signature", "", None, 1])
def test_an_unknown_type(kind: object) -> None:
    made = said_before(payload(lambda node: node["critical"].update(type=kind)))
    reason = "the type of the signature is unknown" if isinstance(kind, str) else "type is missing or of another type"
    refused(judged(trust(), made), reason)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_another_key(layout: str) -> None:
    refused(judged(trust(), await signed(layout, key=private_key("p256", "stranger"))), NOBODY)
    refused(judged(trust(key=private_key("rsa-2048")), await signed(layout)), NOBODY)
    refused(judged(Trust(), await signed(layout)), "no key is trusted")
    refused(judged(trust(trusted=False), await signed(layout)), "the key release is not trusted")


async def test_a_changed_payload() -> None:
    made = await signed("legacy")
    changed = pushed(made, made.blobs[0].replace(b"team/app", b"team/bpp"))
    assert changed.blobs[0] != made.blobs[0]
    refused(judged(trust(), changed, repository="team/bpp"), NOBODY)
    # The same JSON, written in another way.
    refused(judged(trust(), pushed(made, made.blobs[0] + b"\n")), NOBODY)
    made = await signed("bundle")
    node = json.loads(made.blobs[0])
    envelope = node["dsseEnvelope"]
    envelope["payload"] = b64encode(b64decode(envelope["payload"]) + b"\n").decode()
    refused(judged(trust(), pushed(made, json.dumps(node).encode())), NOBODY)


def test_a_payload_is_not_read_before_it_is_proved() -> None:
    """What is no JSON at all is refused for its signature."""
    stranger = private_key("p256", "stranger")
    for made in (said(b"{", stranger), said_before(b"{", stranger)):
        refused(judged(trust(), made), NOBODY)
    refused(judged(trust(), said(b"{")), "the statement is no strict JSON")
    refused(judged(trust(), said_before(b"{")), "the payload is no strict JSON")


def test_a_signature_over_the_payload_alone() -> None:
    good = statement(lambda _: None)
    refused(judged(trust(), said(good, message=good)), NOBODY)
    refused(judged(trust(), said(good, message=pae("text/plain", good))), NOBODY)


def test_another_payload_type() -> None:
    good = statement(lambda _: None)
    for kind in ("text/plain", "application/vnd.in-toto+JSON", "application/vnd.in-toto+json;v=1"):
        refused(judged(trust(), said(good, kind=kind)), "the payload type is not in-toto")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_type": "https://in-toto.io/Statement/v2"}, "the payload is no statement"),
        ({"_type": None}, "_type is missing or of another type"),
        ({"predicateType": 1}, "predicateType is missing or of another type"),
        ({"subject": {}}, "subject is missing or of another type"),
    ],
)
def test_another_statement(change: dict[str, Any], reason: str) -> None:
    refused(judged(trust(), said(statement(lambda node: node.update(change)))), reason)


@pytest.mark.parametrize("kind", ["https://slsa.dev/provenance/v1", "https://sigstore.dev/cosign/sign/v2", ""])
def test_an_attestation(kind: str) -> None:
    """It is no signature, whoever has signed it, and nothing else is said about it."""
    content = statement(lambda node: node.update(predicateType=kind))
    for key in (KEY, private_key("p256", "stranger")):
        assert judgements(trust(), said(content, key)) == []
    with pytest.raises(Refused, match="it is an attestation, and no signature"):
        check_signed(content, IMAGE)


def test_an_older_statement() -> None:
    assert judged(trust(), said(statement(lambda node: node.update(_type="https://in-toto.io/Statement/v0.1")))).good


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_manifest_with_another_subject(layout: str) -> None:
    made = await signed(layout)
    manifest = json.loads(made.manifest)
    subject = {"mediaType": OTHER.media_type, "digest": OTHER.digest, "size": OTHER.size}
    refused(judged(trust(), replace(made, manifest=json.dumps(manifest | {"subject": subject}).encode())), SUBJECT)


async def test_a_bundle_without_a_subject() -> None:
    made = await signed("bundle")
    manifest = json.loads(made.manifest)
    del manifest["subject"]
    cut = replace(made, manifest=json.dumps(manifest).encode())
    refused(judged(trust(), cut), "subject is missing or of another type")


CERTIFIED = private_key("p256", "certified")


async def certified(
    layout: str, trusted: Trust, leaf: x509.Certificate, *others: x509.Certificate, now: float = NOW
) -> Judgement:
    """Returns the judgement on what a certificate's key signed."""
    # The signer does not sign by a certificate that is not valid.
    when = leaf.not_valid_before_utc.timestamp()
    made = await signed(layout, key=CERTIFIED, chain=(leaf, *others), now=when)
    return judged(trusted, made, now=now)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_time_of_a_certificate(layout: str, root: Authority) -> None:
    trusted = vouching(root.certificate)
    leaf = root.issue(key=CERTIFIED, begins=at(NOW) - DAY, ends=at(NOW) + DAY)
    good = await certified(layout, trusted, leaf)
    assert (good.good, good.valid_until) == (True, NOW + DAY.total_seconds())
    two = 2 * DAY.total_seconds()
    refused(await certified(layout, trusted, leaf, now=NOW + two), "the certificate has expired")
    early = await certified(layout, trusted, leaf, now=NOW - two)
    refused(early, "the certificate is not yet valid")
    # What is refused today may be good tomorrow.
    assert early.valid_until == NOW - DAY.total_seconds()


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_intermediate_limits_the_time(layout: str, root: Authority) -> None:
    for ends, good in ((timedelta(days=2), True), (timedelta(hours=-1), False)):
        middle = Authority("middle", root, ends=at(NOW) + ends)
        judgement = await certified(layout, vouching(root.certificate), middle.issue(key=CERTIFIED), middle.certificate)
        assert judgement.good is good
        assert judgement.valid_until == ((at(NOW) + ends).timestamp() if good else None)


UNLED = "the certificate does not lead to an authority of the trust store default"


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_another_authority(layout: str, root: Authority) -> None:
    refused(await certified(layout, vouching(Authority("other").certificate), root.issue(key=CERTIFIED)), UNLED)
    forged = root.issue(key=CERTIFIED, signed_by=CERTIFIED)
    refused(await certified(layout, vouching(root.certificate), forged), UNLED)
    refused(await certified(layout, Trust(), root.issue(key=CERTIFIED)), "no identity is trusted")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_no_way_round_the_certificate(layout: str, root: Authority) -> None:
    """A trusted key does not help a certificate that is not good."""
    expired = root.issue(key=CERTIFIED, ends=at(NOW) - DAY / 2)
    both = replace(vouching(root.certificate), keys=trust(key=CERTIFIED).keys)
    refused(await certified(layout, both, expired), "the certificate has expired")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_certificate_of_another_key(layout: str, root: Authority) -> None:
    judgement = await certified(layout, vouching(root.certificate), root.issue(key=KEY))
    refused(judgement, "the key of the certificate has not made the signature")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_certificate_that_signs_itself(layout: str, root: Authority) -> None:
    alone = root.issue("self", CERTIFIED, signed_by=CERTIFIED)
    refused(await certified(layout, vouching(root.certificate), alone), UNLED)
    refused(await certified(layout, vouching(alone), alone), "the certificate is its own authority")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_chain(layout: str, root: Authority) -> None:
    trusted = vouching(root.certificate)
    middle = Authority("middle", root)
    leaf = middle.issue(key=CERTIFIED)
    assert (await certified(layout, trusted, leaf, middle.certificate)).good
    assert (await certified(layout, vouching(root.certificate, middle.certificate), leaf)).good
    refused(await certified(layout, trusted, leaf), UNLED)
    refused(await certified(layout, trusted, leaf, Authority("middle").certificate), UNLED)
    # A leaf that issues, and an authority below one that must have none.
    no_authority = Authority("middle", root)
    no_authority.certificate = root.issue("middle", no_authority.key)
    refused(await certified(layout, trusted, no_authority.issue(key=CERTIFIED), no_authority.certificate), UNLED)
    upper = Authority("upper", root, path_length=0)
    lower = Authority("lower", upper)
    chain = (lower.issue(key=CERTIFIED), lower.certificate, upper.certificate)
    refused(await certified(layout, trusted, *chain), UNLED)
    many = await certified(layout, trusted, leaf, *[middle.certificate] * 9)
    refused(many, "there are more than 8 certificates")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ca": True}, "the certificate is that of an authority"),
        ({"usage": {"key_encipherment": True}}, "the key usage of the certificate is not digitalSignature"),
        (
            {"usage": {"digital_signature": True, "key_cert_sign": True}},
            "the key usage of the certificate is not digitalSignature",
        ),
        *(
            ({"extended": extended}, "the extended key usage of the certificate is not codeSigning alone")
            for extended in (
                None,
                [ExtendedKeyUsageOID.SERVER_AUTH],
                [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
                [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH],
            )
        ),
        (
            {"others": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]},
            "the certificate has an unknown critical extension",
        ),
        ({"names": ()}, "the identity in the certificate is not trusted"),
    ],
)
async def test_a_certificate_for_something_else(
    layout: str, root: Authority, options: dict[str, Any], reason: str
) -> None:
    refused(await certified(layout, vouching(root.certificate), root.issue(key=CERTIFIED, **options)), reason)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_weak_certificate(layout: str, root: Authority) -> None:
    made = await certified(layout, vouching(root.certificate), root.issue(key=private_key("rsa-1024")))
    refused(made, "an RSA key has 2048 to 4096 bits, not 1024")
    made = await certified(layout, vouching(root.certificate), root.issue(key=private_key("p521")))
    refused(made, "the curve is neither P-256 nor P-384")
    weak = Authority("weak", root, private_key("rsa-1024"))
    refused(await certified(layout, vouching(root.certificate), weak.issue(key=CERTIFIED), weak.certificate), UNLED)
    weak_root = Authority("weak", key=private_key("rsa-1024"))
    refused(await certified(layout, vouching(weak_root.certificate), weak_root.issue(key=CERTIFIED)), UNLED)


def listed(authority: Authority, *serials: int, **options: Any) -> RevocationList:
    return RevocationList("none", authority.revoke(*serials, **options))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_revoked_certificate(layout: str, root: Authority) -> None:
    middle = Authority("middle", root)
    leaf = middle.issue(key=CERTIFIED, serial=7)
    middle_serial = middle.certificate.serial_number

    async def with_lists(*lists: RevocationList) -> Judgement:
        return await certified(layout, vouching(root.certificate, revocations=lists), leaf, middle.certificate)

    good = await with_lists(listed(middle, 8), listed(root, 7))
    # A serial number is one of its issuer; and the list has to be looked at again when it ends.
    assert (good.good, good.valid_until) == (True, NOW + DAY.total_seconds())
    refused(await with_lists(listed(middle, 6, 7)), "a certificate is revoked")
    refused(await with_lists(listed(middle, 8), listed(root, middle_serial)), "a certificate is revoked")
    refused(await with_lists(listed(middle, 8), listed(middle, 7)), "a certificate is revoked")
    late = "a revocation list has expired or is not yet valid"
    refused(await with_lists(listed(middle, 8, ends=at(NOW) - DAY)), late)
    refused(await with_lists(listed(middle, 8, key=KEY)), "a revocation list is not by its issuer")


def test_an_unsigned_image() -> None:
    manifest = {"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": []}
    assert judgements(trust(), Signature(IMAGE.media_type, json.dumps(manifest).encode())) == []


def issued_by(issuer: str, oid: x509.ObjectIdentifier = ISSUER_V2) -> list[tuple[x509.ExtensionType, bool]]:
    text = issuer.encode()
    length = bytes([len(text)]) if len(text) < 128 else b"\x81" + bytes([len(text)])
    value = b"\x0c" + length + text if oid == ISSUER_V2 else text
    return [(x509.UnrecognizedExtension(oid, value), False)]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_another_identity(layout: str, root: Authority) -> None:
    name = x509.UniformResourceIdentifier("https://ci.example/acme/app/release.yml@refs/heads/main")
    issuer = "https://token.ci.example"
    for subject, good in (
        ("https://ci.example/acme/app/release.yml@refs/heads/main", True),
        ("https://ci.example/acme/*", True),
        ("*", True),
        ("https://ci.example/acme", False),
        ("https://ci.example/other/*", False),
        ("ci@drift.example", False),
    ):
        leaf = root.issue(key=CERTIFIED, names=(name,), others=issued_by(issuer))
        judgement = await certified(layout, vouching(root.certificate, subject=subject), leaf)
        assert judgement.good is good
        assert judgement.signer == (f"identity {name.value} {issuer}" if good else None)
        assert judgement.reason == ("" if good else "the identity in the certificate is not trusted")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_identity_is_one_of_its_authority(layout: str, root: Authority) -> None:
    """What one authority is trusted with another is not."""
    other = Authority("other")
    trusted = Trust(
        stores={"ours": Store("ours", (root.certificate,)), "theirs": Store("theirs", (other.certificate,))},
        identities=(
            TrustedIdentity(subject="ci@drift.example", trust_store="ours"),
            TrustedIdentity(subject="*@other.example", trust_store="theirs"),
        ),
    )
    theirs = (x509.RFC822Name("ci@other.example"),)
    assert (await certified(layout, trusted, root.issue(key=CERTIFIED))).good
    assert (await certified(layout, trusted, other.issue(key=CERTIFIED, names=theirs))).good
    unled = "the certificate does not lead to an authority of the trust store "
    unknown = "the identity in the certificate is not trusted"
    refused(await certified(layout, trusted, other.issue(key=CERTIFIED)), f"{unled}ours; {unknown}")
    refused(await certified(layout, trusted, root.issue(key=CERTIFIED, names=theirs)), f"{unknown}; {unled}theirs")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_another_issuer(layout: str, root: Authority) -> None:
    issuer = "https://token.ci.example/" + "x" * 120
    trusted = replace(
        vouching(root.certificate), identities=(TrustedIdentity(subject="ci@drift.example", issuer=issuer),)
    )
    for others, good in (
        (issued_by(issuer), True),
        (issued_by(issuer, ISSUER_V1), True),
        (issued_by(issuer + "/"), False),
        ([*issued_by(issuer, ISSUER_V1), *issued_by("https://evil.example")], False),
        ([], False),
    ):
        judgement = await certified(layout, trusted, root.issue(key=CERTIFIED, others=others))
        assert judgement.good is good
    malformed = [(x509.UnrecognizedExtension(ISSUER_V2, b"\x0c\x7f" + issuer.encode()), False)]
    judgement = await certified(layout, trusted, root.issue(key=CERTIFIED, others=malformed))
    refused(judgement, "the issuer in the certificate is malformed")


def test_a_key_twice_in_a_payload() -> None:
    twice = b'"type":"x","type":"cosign container image signature"'
    doubled = payload(lambda _: None).replace(b'"type": "cosign container image signature"', twice)
    assert twice in doubled
    refused(judged(trust(), said_before(doubled)), "the payload is no strict JSON")
    doubled = statement(lambda _: None).replace(b'"predicate": {}', b'"predicate": {}, "predicate": {}')
    refused(judged(trust(), said(doubled)), "the statement is no strict JSON")


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node.update(other=1),
        lambda node: node["critical"].update(other=1),
        lambda node: node["critical"]["image"].update(other=1),
        lambda node: node["critical"]["identity"].update(other=1),
    ],
)
def test_an_unknown_member(change: Callable[[Any], None]) -> None:
    judgement = judged(trust(), said_before(payload(change)))
    assert not judgement.good
    assert judgement.reason.startswith("there is something else than ")


@pytest.mark.parametrize("optional", [None, {}, {"a": [1]}, {"timestamp": "then"}, {"timestamp": True}])
def test_what_is_optional(optional: object) -> None:
    judgement = judged(trust(), said_before(payload(lambda node: node.update(optional=optional))))
    assert (judgement.good, judgement.signed_at) == (True, None)


@pytest.mark.parametrize("change", [lambda text: text + "\n", lambda text: text.rstrip("="), lambda text: " " + text])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_base64_that_is_not_canonical(layout: str, change: Callable[[str], str]) -> None:
    made = await signed(layout, key=private_key("ed25519"))
    if layout == "bundle":
        node = json.loads(made.blobs[0])
        entry = node["dsseEnvelope"]["signatures"][0]
        entry["sig"] = change(entry["sig"])
        made = pushed(made, json.dumps(node).encode())
    else:
        node = json.loads(made.manifest)
        annotations = node["layers"][0]["annotations"]
        annotations[legacy.SIGNATURE] = change(annotations[legacy.SIGNATURE])
        made = replace(made, manifest=json.dumps(node).encode())
    refused(judged(trust(key=private_key("ed25519")), made), "the signature is no canonical base64")


def changed_bundle(made: Signature, change: Callable[[Any], None]) -> Signature:
    node = json.loads(made.blobs[0])
    change(node)
    return pushed(made, json.dumps(node).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda node: node.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
            "the bundle is not of version 0.3",
        ),
        (lambda node: node.update(messageSignature={}), "the bundle has not a DSSE envelope alone"),
        (lambda node: node.pop("dsseEnvelope"), "the bundle has not a DSSE envelope alone"),
        (
            lambda node: node["verificationMaterial"].update(certificate={}),
            "the bundle does not say by one key or one certificate who signed",
        ),
        (
            lambda node: node.update(verificationMaterial={}),
            "the bundle does not say by one key or one certificate who signed",
        ),
        (
            lambda node: node.update(verificationMaterial={"x509CertificateChain": {"certificates": []}}),
            "the chain of certificates is empty",
        ),
        (
            lambda node: node.update(verificationMaterial={"certificate": {"rawBytes": "AAAA"}}),
            "a certificate is malformed",
        ),
        (
            lambda node: node["dsseEnvelope"].update(signatures=node["dsseEnvelope"]["signatures"] * 2),
            "the envelope has not exactly one signature",
        ),
        (
            lambda node: node["dsseEnvelope"].update(signatures=[]),
            "the envelope has not exactly one signature",
        ),
    ],
)
async def test_another_bundle(change: Callable[[Any], None], reason: str) -> None:
    refused(judged(trust(), changed_bundle(await signed("bundle"), change)), reason)


async def test_an_older_spelling_of_the_version_and_a_wrong_hint() -> None:
    """They prove nothing, and neither do they refute."""

    def change(node: Any) -> None:
        node["mediaType"] = bundle.SAME_VERSION
        node["verificationMaterial"]["publicKey"]["hint"] = "other"

    assert judged(trust(), changed_bundle(await signed("bundle"), change)).good


async def test_an_older_layer() -> None:
    made = await signed("bundle")
    manifest = json.loads(made.manifest)
    manifest["layers"][0]["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    old = replace(made, manifest=json.dumps(manifest).encode())
    refused(judged(trust(), old), "the bundle is not of version 0.3")
    manifest["layers"] *= 2
    refused(judged(trust(), replace(made, manifest=json.dumps(manifest).encode())), "there is not exactly one bundle")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_too_large(layout: str) -> None:
    made = await signed(layout)
    largest = LARGEST_BLOB if layout == "bundle" else legacy.LARGEST_PAYLOAD
    whole = judged(trust(), pushed(made, made.blobs[0].ljust(largest)))
    # Of a bundle blanks are around what is signed, of the older layout within it.
    assert whole.reason == ("" if layout == "bundle" else NOBODY)
    refused(judged(trust(), pushed(made, bytes(largest + 1))), f"a blob has more than {largest} bytes")
    assert judged(trust(), replace(made, manifest=made.manifest.ljust(LARGEST_MANIFEST))).good
    # Without reading it nobody knows what it is, so that it is no signature at all.
    assert judgements(trust(), replace(made, manifest=made.manifest + b" " * LARGEST_MANIFEST)) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [{"size": 1}, {"size": True}, {"digest": OTHER.digest}, {"digest": "sha256:x"}, {}])
async def test_a_blob_that_is_not_what_the_manifest_says(layout: str, change: dict[str, Any]) -> None:
    made = await signed(layout)
    manifest = json.loads(made.manifest)
    manifest["layers"][0] |= change
    judgement = judged(trust(), replace(made, manifest=json.dumps(manifest).encode()))
    assert judgement.good is (not change)


async def test_too_many_signatures() -> None:
    made = await signed("legacy")
    manifest = json.loads(made.manifest)
    for count, verdicts in ((MOST_SIGNATURES, [True] * MOST_SIGNATURES), (MOST_SIGNATURES + 1, [False])):
        many = manifest | {"layers": manifest["layers"] * count}
        found = judgements(trust(), replace(made, manifest=json.dumps(many).encode()))
        assert [judgement.good for judgement in found] == verdicts
        # One key, however often it signs.
        assert len({judgement.signer for judgement in found}) == 1


async def test_another_layer_beside_a_signature() -> None:
    made = await signed("legacy")
    manifest = json.loads(made.manifest)
    manifest["layers"].append(manifest["layers"][0] | {"mediaType": "text/plain"})
    good, bad = judgements(trust(), replace(made, manifest=json.dumps(manifest).encode()))
    assert good.good
    refused(bad, "the layer is no signature")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_name_with_a_space(layout: str, root: Authority) -> None:
    """It could be read as a name and an issuer, and be taken for another signer."""
    name = x509.UniformResourceIdentifier("ci@drift.example https://issuer.example")
    judgement = await certified(
        layout, vouching(root.certificate, subject="*"), root.issue(key=CERTIFIED, names=[name])
    )
    refused(judgement, "the identity in the certificate is not trusted")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Another algorithm of the key, its point off the curve, a version that there is not, and an extension twice.
        ("06072a8648ce3d0201", "06072a8648ce3d0209"),
        ("03420004", "03420005"),
        ("a003020102", "a003020105"),
        ("0603551d0f", "0603551d13"),
    ],
)
async def test_a_malformed_certificate(layout: str, root: Authority, old: str, new: str) -> None:
    leaf = root.issue(key=CERTIFIED)
    made = await signed(layout, key=CERTIFIED, chain=(leaf,))
    der = leaf.public_bytes(Encoding.DER)
    damaged = der.replace(bytes.fromhex(old), bytes.fromhex(new))
    assert damaged != der
    if layout == "bundle":
        text = b64encode(damaged).decode()
        made = changed_bundle(made, lambda node: node["verificationMaterial"]["certificate"].update(rawBytes=text))
        reason = "a certificate is malformed"
    else:
        manifest = json.loads(made.manifest)
        annotations = manifest["layers"][0]["annotations"]
        annotations[legacy.CERTIFICATE] = (
            f"-----BEGIN CERTIFICATE-----\n{b64encode(damaged).decode()}\n-----END CERTIFICATE-----\n"
        )
        made = replace(made, manifest=json.dumps(manifest).encode())
        reason = "it is no PEM file with certificates"
    refused(judged(vouching(root.certificate), made), reason)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_too_many_brackets(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await signed(layout)
    manifest = made.manifest.replace(b"{", b'{"x":"%s",' % (b"[" * MOST_BRACKETS), 1)
    assert not claims(made.media_type, manifest)
    assert judgements(trust(), replace(made, manifest=manifest)) == []
    nested = b"[" * MOST_BRACKETS + b"{"
    reason = "it is nested too much"
    if layout == "legacy":
        refused(
            judged(trust(), said_before(payload(lambda node: node.update(optional={"x": nested.decode()})))), reason
        )
        few = {"x": "[" * (MOST_BRACKETS - 10)}
        assert judged(trust(), said_before(payload(lambda node: node.update(optional=few)))).good
        return
    refused(judged(trust(), said(statement(lambda node: node.update(predicate=nested.decode())))), reason)
    # 4 MiB that nobody has signed are not even parsed.
    large = pushed(made, b'{"payload":[' + b"[]," * 1_398_000 + b"1]}")
    parsed: list[int] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **options: parsed.append(len(text)) or loads(text, **options))
    refused(judged(trust(), large), reason)
    assert parsed == [len(large.manifest)]


async def test_what_would_be_too_large_to_be_read() -> None:
    with pytest.raises(Denied, match="what is signed has more than 65536 bytes"):
        await signer("legacy").sign(REPOSITORY, IMAGE, "release", annotations={"x": "y" * legacy.LARGEST_PAYLOAD})
    many = json.loads((await signed("legacy")).manifest)
    many["layers"][0]["annotations"]["x"] = "y" * (LARGEST_MANIFEST - len(json.dumps(many)) - 20)
    tagged = {legacy.tag_of(IMAGE.digest) or "": json.dumps(many).encode()}
    with pytest.raises(Denied, match="the manifest of signatures would have more than 1048576 bytes"):
        await signer("legacy").sign(REPOSITORY, IMAGE, "release", tagged=tagged)


async def test_the_older_layout_as_a_referrer() -> None:
    """As cosign attaches it with ``--registry-referrers-mode=oci-1-1``."""
    made = await signed("legacy")
    kind = "application/vnd.dev.cosign.artifact.sig.v1+json"
    manifest = json.loads(made.manifest) | {"artifactType": kind}
    manifest["config"]["mediaType"] = kind
    for subject, reason in ((IMAGE, ""), (OTHER, SUBJECT)):
        manifest["subject"] = {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size}
        attached = replace(made, manifest=json.dumps(manifest).encode(), tag=None)
        assert claims(attached.media_type, attached.manifest)
        assert judged(trust(), attached).reason == reason


async def test_an_attestation_beside_a_signature() -> None:
    """Each is judged where it belongs."""
    made = await signed("legacy")
    manifest = json.loads(made.manifest)
    manifest["layers"].append(manifest["layers"][0] | {"mediaType": legacy.ATTESTATION})
    assert judged(trust(), replace(made, manifest=json.dumps(manifest).encode())).good


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_when_a_revocation_list_begins(layout: str, root: Authority) -> None:
    """Until then the answer is no, and afterwards it may be another."""
    now = NOW - 3 * DAY.total_seconds()
    leaf = root.issue(key=CERTIFIED, begins=at(now) - DAY)
    early = Authority("root", key=root.key, begins=at(now) - DAY)
    trusted = vouching(early.certificate, revocations=(listed(root, 7),))
    judgement = await certified(layout, trusted, leaf, now=now)
    refused(judgement, "a revocation list has expired or is not yet valid")
    assert judgement.valid_until == NOW - 2 * DAY.total_seconds()
