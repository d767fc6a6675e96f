"""What must be refused, each with a reason of its own, in both layouts; and what is not judged here."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from drift_sign_cosign import algorithms
from drift_sign_cosign.artifact import LARGEST_BLOB, LARGEST_MANIFEST, MOST_BYTES, MOST_SIGNATURES
from drift_sign_cosign.dsse import pae
from drift_sign_cosign.encoding import MOST_BRACKETS
from drift_sign_cosign.legacy import ATTESTATION, CERTIFICATE, PAYLOAD
from drift_sign_cosign.statement import SIGNED
from drift_sign_cosign.trust import Trust
from drift_sign_intoto.verification import claims
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drift_core.api import Digest, Signature

from .conftest import (
    DAY,
    IMAGE,
    MANIFEST,
    NOW,
    OTHER,
    Change,
    artifact,
    at,
    cosign,
    judged,
    judgements,
    leaf,
    private_key,
    pushed,
    refused,
    said,
    said_before,
    signer,
    statement,
    trust,
    vouching,
)

LAYOUTS = pytest.mark.parametrize("make", [said, said_before])
Make = Callable[..., Signature]
ATTESTATIONS = (
    "cosign-v2-legacy-att",
    "cosign-v3-legacy-att",
    "cosign-v3-bundle-attest-custom",
    "cosign-v3-bundle-attest-slsa",
)
NOBODY = "no trusted key has made the signature"
DIGEST = "another digest was signed"
SUBJECT = "the manifest has another subject"


@LAYOUTS
def test_what_is_not_changed_is_good(make: Make) -> None:
    """Each case below is one change of this."""
    judgement = judged(trust(), make(statement()))
    assert (judgement.good, judgement.reason, judgement.signed_at) == (True, "", NOW)
    assert (judgement.key_id, judgement.algorithm, judgement.trust_stores) == ("release", "ecdsa-p256-sha256", ())
    assert judgement.signer == f"key {judgement.fingerprint}" == f"key {trust().keys[0].fingerprint}"


@pytest.mark.parametrize("name", ATTESTATIONS)
def test_what_cosign_attests(name: str) -> None:
    made = artifact(name)
    assert claims(made.media_type, made.manifest)
    assert judged(cosign(), made).good
    refused(judged(trust(), made), NOBODY)
    refused(judged(cosign(), made, OTHER), SUBJECT if "bundle" in name else DIGEST)
    refused(
        judged(cosign(), made, predicate_types=("https://other.example",)), "the predicate type is none that counts"
    )
    if "slsa" in name:
        assert judged(cosign(), made, builders=("https://example.com/builder",)).good
        refused(judged(cosign(), made, builders=("https://example.com/b",)), "the builder is not trusted")
        refused(judged(cosign(), made, sources=("*",)), "the provenance does not say from what source it is")


def test_a_signature_is_left_to_others() -> None:
    """Whether it is good or not."""
    made = artifact("cosign-v3-bundle-sign")
    # Only the blob says what it is.
    assert claims(made.media_type, made.manifest)
    for trusted in (cosign(), trust(), Trust()):
        assert judgements(trusted, made) == []
    legacy = said_before(statement())
    manifest = json.loads(legacy.manifest)
    manifest["layers"][0]["mediaType"] = PAYLOAD
    legacy = replace(legacy, manifest=json.dumps(manifest).encode())
    assert not claims(legacy.media_type, legacy.manifest)
    assert judgements(trust(), legacy) == []


def test_a_signature_in_the_place_of_an_attestation() -> None:
    """Nobody looks for it there."""
    refused(judged(trust(), said_before(statement(kind=SIGNED))), "it is a signature, and no attestation")


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"null", b'{"layers": 1}', b'{"layers": [1, null]}', b'{"config": []}', b'{"subject": {}}']
)
def test_what_is_of_another_format(manifest: bytes) -> None:
    assert not claims(MANIFEST, manifest)
    assert judgements(trust(), Signature(MANIFEST, manifest)) == []


@LAYOUTS
def test_another_media_type(make: Make) -> None:
    made = replace(make(statement()), media_type="application/vnd.oci.image.index.v1+json")
    assert not claims(made.media_type, made.manifest)
    assert judgements(trust(), made) == []


@LAYOUTS
def test_another_digest(make: Make) -> None:
    refused(judged(trust(), make(statement(subject=OTHER))), DIGEST)
    refused(judged(trust(), make(statement(lambda node: node.update(subject=[])))), DIGEST)
    other = {"digest": {"sha256": Digest.parse(OTHER.digest).encoded}}
    assert judged(trust(), make(statement(lambda node: node["subject"].insert(0, other)))).good


@LAYOUTS
def test_another_subject_of_the_manifest(make: Make) -> None:
    made = make(statement())
    subject = {"mediaType": OTHER.media_type, "digest": OTHER.digest, "size": OTHER.size}
    manifest = json.loads(made.manifest) | {"subject": subject}
    refused(judged(trust(), replace(made, manifest=json.dumps(manifest).encode())), SUBJECT)


@LAYOUTS
def test_another_key(make: Make) -> None:
    refused(judged(trust(), make(statement(), key=private_key("stranger"))), NOBODY)
    refused(judged(Trust(), make(statement())), "no key is trusted")
    refused(judged(trust(trusted=False), make(statement())), "the key release is not trusted")


@LAYOUTS
def test_a_payload_is_not_read_before_it_is_proved(make: Make) -> None:
    refused(judged(trust(), make(b"{", key=private_key("stranger"))), NOBODY)
    refused(judged(trust(), make(b"{")), "the statement is no strict JSON")


def envelope_of(node: Any) -> Any:
    return node.get("dsseEnvelope", node)


def enveloped(made: Signature, change: Change) -> Signature:
    """Returns the artifact with a changed envelope."""
    node = json.loads(made.blobs[0])
    change(envelope_of(node))
    return pushed(made, json.dumps(node).encode())


@LAYOUTS
def test_a_signature_over_something_else(make: Make) -> None:
    """Over the payload alone, or as one of another type."""
    payload = statement()
    for message in (payload, pae("text/plain", payload)):
        text = b64encode(algorithms.sign(private_key(), message)).decode()
        made = enveloped(make(payload), lambda node, text=text: node["signatures"][0].update(sig=text))  # type: ignore[misc]
        refused(judged(trust(), made), NOBODY)


@LAYOUTS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda node: node.update(payloadType="text/plain"), "the payload type is not in-toto"),
        (lambda node: node.pop("payloadType"), "payloadType is missing or of another type"),
        (lambda node: node.update(payload=node["payload"] + "\n"), "the payload is no canonical base64"),
        (lambda node: node.update(payload=b64encode(b64decode(node["payload"]) + b" ").decode()), NOBODY),
        (lambda node: node.update(signatures=[]), "the envelope has not exactly one signature"),
        (lambda node: node.update(signatures=node["signatures"] * 2), "the envelope has not exactly one signature"),
        (lambda node: node["signatures"][0].update(sig="AAAA"), NOBODY),
        (lambda node: node["signatures"][0].update(sig=1), "sig is missing or of another type"),
    ],
)
def test_another_envelope(make: Make, change: Change, reason: str) -> None:
    refused(judged(trust(), enveloped(make(statement()), change)), reason)


@LAYOUTS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_type": "https://in-toto.io/Statement/v2"}, "the payload is no statement"),
        ({"_type": 1}, "_type is missing or of another type"),
        ({"predicateType": None}, "predicateType is missing or of another type"),
        ({"subject": {}}, "subject is missing or of another type"),
        ({"subject": [{}]}, "digest is missing or of another type"),
    ],
)
def test_another_statement(make: Make, change: dict[str, Any], reason: str) -> None:
    refused(judged(trust(), make(statement(lambda node: node.update(change)))), reason)


@LAYOUTS
def test_a_blob_that_is_not_what_the_manifest_says(make: Make) -> None:
    made = make(statement())
    for blobs in ((), (made.blobs[0] + b" ",)):
        refused(judged(trust(), replace(made, blobs=blobs)), "a blob is missing, or not what the manifest says")
    refused(judged(trust(), pushed(made, b"{")), f"the {'bundle' if make is said else 'envelope'} is no strict JSON")


@LAYOUTS
def test_too_large(make: Make) -> None:
    made = make(statement())
    refused(judged(trust(), pushed(made, bytes(LARGEST_BLOB + 1))), f"a blob has more than {LARGEST_BLOB} bytes")
    assert judged(trust(), pushed(made, made.blobs[0].ljust(LARGEST_BLOB))).good
    assert judged(trust(), replace(made, manifest=made.manifest.ljust(LARGEST_MANIFEST))).good
    # Without reading it nobody knows what it is, so that it is no attestation at all.
    assert judgements(trust(), replace(made, manifest=made.manifest + b" " * LARGEST_MANIFEST)) == []


@LAYOUTS
def test_too_many_brackets(make: Make) -> None:
    for count, good in ((MOST_BRACKETS - 10, True), (MOST_BRACKETS, False)):
        many = statement(lambda node, count=count: node.update(predicate={"x": "{" * count}))  # type: ignore[misc]
        judgement = judged(trust(), make(many))
        assert (judgement.good, judgement.reason) == (good, "" if good else "it is nested too much")
    made = make(statement())
    refused(judged(trust(), pushed(made, b'{"payload":[' + b"[]," * 1_398_000 + b"1]}")), "it is nested too much")
    manifest = made.manifest.replace(b"{", b'{"x":"%s",' % (b"[" * MOST_BRACKETS), 1)
    assert not claims(made.media_type, manifest)
    assert judgements(trust(), replace(made, manifest=manifest)) == []


def test_more_bytes_than_are_read() -> None:
    """A blob counts as often as it is named, since it is read as often."""
    made = said_before(statement())
    made = pushed(made, made.blobs[0].ljust(LARGEST_BLOB))
    manifest = json.loads(made.manifest)
    times = MOST_BYTES // LARGEST_BLOB
    manifest["layers"] *= times + 1
    found = judgements(trust(), replace(made, manifest=json.dumps(manifest).encode()))
    assert [judgement.reason for judgement in found] == [*[""] * times, f"the blobs have more than {MOST_BYTES} bytes"]


def test_several_envelopes() -> None:
    """Each is judged by itself, in their order."""
    bad = statement(subject=OTHER)
    found = judgements(trust(), said_before(statement(), bad, statement(kind="https://other.example")))
    assert [judgement.reason for judgement in found] == ["", DIGEST, ""]
    manifest = json.loads(said_before(statement()).manifest)
    manifest["layers"].append(manifest["layers"][0] | {"mediaType": "text/plain"})
    made = replace(said_before(statement()), manifest=json.dumps(manifest).encode())
    assert len(judgements(trust(), made)) == 1


def test_too_many_envelopes() -> None:
    made = said_before(statement())
    manifest = json.loads(made.manifest)
    for count, reasons in (
        (MOST_SIGNATURES, [""] * MOST_SIGNATURES),
        (MOST_SIGNATURES + 1, ["there are more than 100 attestations"]),
    ):
        many = manifest | {"layers": manifest["layers"] * count}
        found = judgements(trust(), replace(made, manifest=json.dumps(many).encode()))
        assert [judgement.reason for judgement in found] == reasons


async def test_a_certificate(root: x509.Certificate) -> None:
    key = private_key("certified")
    pem = leaf().public_bytes(Encoding.PEM).decode()
    bundled = await signer(key=key, chain=(leaf(),)).sign("app", IMAGE, "release")
    for made in (*bundled, said_before(statement(), key=key, annotations={CERTIFICATE: pem})):
        judgement = judged(vouching(root), made)
        assert (judgement.good, judgement.signer) == (True, "identity ci@drift.example")
        assert (judgement.trust_stores, judgement.key_id) == (("default",), None)
        assert judgement.fingerprint == algorithms.fingerprint(key.public_key()).hex()
        assert judgement.valid_until == NOW + DAY.total_seconds()
        distrusting = replace(vouching(root), distrusted={judgement.fingerprint: "old"})
        refused(judged(distrusting, made), "the key old is not trusted")
        late = judged(vouching(root), made, now=NOW + 2 * DAY.total_seconds())
        refused(late, "the certificate has expired")
        other = judged(vouching(root, subject="other@drift.example"), made)
        refused(other, "the identity in the certificate is not trusted")
        # A trusted key does not help a certificate that is not good.
        refused(judged(trust(key=key), made), "no identity is trusted")
    changed = said_before(statement(), annotations={CERTIFICATE: pem})
    refused(judged(vouching(root), changed), "the key of the certificate has not made the signature")
    expired = leaf(at(NOW) - DAY / 2).public_bytes(Encoding.PEM).decode()
    changed = said_before(statement(), key=key, annotations={CERTIFICATE: expired})
    refused(judged(vouching(root), changed), "the certificate has expired")


GOOD = [artifact(name) for name in ATTESTATIONS]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
POLICIES = st.fixed_dictionaries(
    {}, optional={"builders": st.just(("*",)), "sources": st.just(("*",)), "predicate_types": st.just(("x",))}
)


@given(st.sampled_from(GOOD), st.data(), POLICIES)
def test_any_damage(made: Signature, data: st.DataObject, policy: dict[str, Any]) -> None:
    """Bytes of an envelope are others, and it is pushed again: it is refused, and no error."""
    blob = bytearray(made.blobs[0])
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    node = unread(bytes(blob))
    for judgement in judgements(cosign(), pushed(made, bytes(blob)), **policy):
        assert judgement.good is (not judgement.reason)
        # What is beside the envelope, such as the hint of a key, is signed by nobody.
        assert not judgement.good or node == essence(json.loads(made.blobs[0]))


def essence(node: Any) -> Any:
    """Returns what counts in an envelope or a bundle."""
    envelope = envelope_of(node)
    return envelope["payload"], envelope["payloadType"], [one["sig"] for one in envelope["signatures"]]


def unread(content: bytes) -> Any:
    try:
        return essence(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


@given(st.sampled_from(GOOD), st.data())
def test_any_damage_of_a_manifest(made: Signature, data: st.DataObject) -> None:
    manifest = bytearray(made.manifest)
    manifest[data.draw(st.integers(0, len(manifest) - 1))] = data.draw(st.integers(0, 255))
    damaged = replace(made, manifest=bytes(manifest))
    found = judgements(cosign(), damaged)
    assert all(judgement.good is (not judgement.reason) for judgement in found)
    assert claims(MANIFEST, damaged.manifest) or found == []


@given(st.sampled_from(GOOD), st.data())
def test_any_member_of_an_envelope(made: Signature, data: st.DataObject) -> None:
    node = json.loads(made.blobs[0])
    envelope = envelope_of(node)
    place = data.draw(st.sampled_from([envelope, envelope["signatures"][0]]))
    key = data.draw(st.sampled_from(sorted(set(place) - {"keyid"})))
    value = data.draw(JSON)
    changed = place[key] != value
    place[key] = value
    try:
        blob = json.dumps(node, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert not changed or not any(judgement.good for judgement in judgements(cosign(), pushed(made, blob)))


@given(JSON, st.sampled_from([said, said_before]), POLICIES, st.sampled_from(["https://slsa.dev/provenance/v1", "x"]))
def test_any_predicate(value: Any, make: Make, policy: dict[str, Any], kind: str) -> None:
    """By whom it may be signed, and whatever it says: it is judged, and no error."""
    try:
        payload = statement(lambda node: node.update(predicate=value), kind)
        payload.decode()
    except UnicodeEncodeError:
        return
    judgement = judged(trust(), make(payload), **policy)
    expected = kind in policy.get("predicate_types", (kind,))
    if kind == "x" or not {"builders", "sources"} & policy.keys():
        assert judgement.good is expected
    else:
        assert not judgement.good


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_payload(payload: bytes) -> None:
    """By a trusted key, too, it is no attestation."""
    for make in (said, said_before):
        assert not judged(trust(), make(payload)).good


@pytest.mark.parametrize("name", ATTESTATIONS)
def test_every_cut(name: str) -> None:
    made = artifact(name)
    for end in range(len(made.blobs[0])):
        cut = pushed(made, made.blobs[0][:end])
        assert [judgement.good for judgement in judgements(cosign(), cut)] == [False]


def test_the_type_of_a_layer() -> None:
    """The name that is written here is the one that cosign writes."""
    assert json.loads(artifact("cosign-v3-legacy-att").manifest)["layers"][0]["mediaType"] == ATTESTATION
