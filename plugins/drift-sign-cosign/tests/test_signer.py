"""What the signer writes, and that it adds to what is there."""

import json
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_sign_cosign import legacy
from drift_sign_cosign.algorithms import fingerprint
from drift_sign_cosign.artifact import MOST_SIGNATURES
from drift_sign_cosign.config import SigningConfig
from drift_sign_cosign.signer import open_signer
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drift_core.api import Denied, Descriptor, Digest, KeyInfo, Signature, SigningKey, StartError
from drift_core.conformance import services

from .conftest import (
    DAY,
    IMAGE,
    MANIFEST,
    NOW,
    OTHER,
    REPOSITORY,
    Authority,
    at,
    configured,
    judged,
    judgements,
    pem,
    private_key,
    signer,
    trust,
    vouching,
)

TAG = f"sha256-{Digest.parse(IMAGE.digest).encoded}.sig"
LONG = Descriptor(MANIFEST, str(Digest.of(b"image", "sha512")), 5)


async def test_both_layouts_by_one_key() -> None:
    before, bundled = await signer().sign(REPOSITORY, IMAGE, "release")
    assert before.tag == f"sha256-{Digest.parse(IMAGE.digest).encoded}.sig"
    assert bundled.tag is None
    one, two = judged(trust(), before), judged(trust(), bundled)
    assert one.signer == two.signer is not None
    assert one.signed_at == two.signed_at == NOW


async def test_what_is_signed() -> None:
    made = signer(registry_name="registry.example:5000")
    before, bundled = await made.sign(REPOSITORY, IMAGE, "release", annotations={"b": "\N{SNOWMAN}", "a": "1"})
    assert json.loads(before.blobs[0]) == {
        "critical": {
            "identity": {"docker-reference": "registry.example:5000/team/app"},
            "image": {"docker-manifest-digest": IMAGE.digest},
            "type": "cosign container image signature",
        },
        "optional": {"a": "1", "b": "\N{SNOWMAN}", "timestamp": int(NOW)},
    }
    assert json.loads(b64decode(json.loads(bundled.blobs[0])["dsseEnvelope"]["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "digest": {"sha256": IMAGE.digest.partition(":")[2]},
                "annotations": {"a": "1", "b": "\N{SNOWMAN}", "timestamp": str(int(NOW))},
            }
        ],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }
    for artifact in (before, bundled):
        assert judged(trust(), artifact, config=configured("registry.example:5000")).good


async def test_a_signature_is_added() -> None:
    (first,) = await signer("legacy").sign(REPOSITORY, IMAGE, "release")
    other = private_key("rsa-2048")
    tagged = {"sha256-x.sig": b"another tag", str(first.tag): first.manifest}
    (second,) = await signer("legacy", key=other).sign(REPOSITORY, IMAGE, "release", tagged=tagged)
    assert json.loads(second.manifest)["layers"][:1] == json.loads(first.manifest)["layers"]
    assert len(json.loads(second.blobs[1])["rootfs"]["diff_ids"]) == 2
    whole = replace(second, blobs=(*first.blobs, *second.blobs))
    for trusted, verdicts in ((trust(), [True, False]), (trust(key=other), [False, True])):
        assert [judgement.good for judgement in judgements(trusted, whole)] == verdicts
    # The blob of the first is gone, which does not harm the second.
    assert [judgement.good for judgement in judgements(trust(key=other), second)] == [False, True]


@pytest.mark.parametrize(
    "existing",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        json.dumps({"layers": []}).encode(),
        json.dumps({"layers": [{"mediaType": "text/plain", "digest": OTHER.digest, "size": 1}]}).encode(),
        json.dumps({"layers": [{"mediaType": legacy.PAYLOAD, "size": 1}]}).encode(),
        json.dumps({"layers": [{"mediaType": legacy.PAYLOAD, "digest": "x", "size": 1}]}).encode(),
    ],
)
async def test_what_is_no_manifest_of_signatures_is_not_replaced(existing: bytes) -> None:
    with pytest.raises(Denied):
        await signer().sign(REPOSITORY, IMAGE, "release", tagged={TAG: existing})


async def test_no_more_signatures_than_are_looked_at() -> None:
    (first,) = await signer("legacy").sign(REPOSITORY, IMAGE, "release")
    manifest = json.loads(first.manifest)
    for count in (MOST_SIGNATURES - 1, MOST_SIGNATURES):
        tagged = {TAG: json.dumps(manifest | {"layers": manifest["layers"] * count}).encode()}
        if count < MOST_SIGNATURES:
            (made,) = await signer("legacy").sign(REPOSITORY, IMAGE, "release", tagged=tagged)
            assert all(judgement.good for judgement in judgements(trust(), made))
        else:
            with pytest.raises(Denied, match="there are 100 signatures already"):
                await signer("legacy").sign(REPOSITORY, IMAGE, "release", tagged=tagged)


async def test_a_certificate_that_is_not_valid_now(root: Authority) -> None:
    middle = Authority("middle", root, ends=at(NOW) + DAY)
    chain = (middle.issue(), middle.certificate)
    key = private_key("p256", "leaf")
    assert await signer(key=key, chain=chain).sign(REPOSITORY, IMAGE, "release")
    for now, reason in ((NOW - 2 * DAY.total_seconds(), "not yet valid"), (NOW + 2 * DAY.total_seconds(), "expired")):
        with pytest.raises(Denied, match=reason):
            await signer(key=key, chain=chain, now=now).sign(REPOSITORY, IMAGE, "release")


async def test_the_keys_of_a_signer(tmp_path_factory: pytest.TempPathFactory, root: Authority) -> None:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key").write_bytes(pem(private_key("p384")))
    leaf = root.issue(key=private_key("p384"), ends=at(NOW) + DAY)
    (folder / "leaf").write_bytes(leaf.public_bytes(Encoding.PEM))
    path, certificate = str(folder / "key"), str(folder / "leaf")
    config = SigningConfig(
        signing_keys=(
            SigningKey(key_id="a", key_path=path),
            SigningKey(key_id="b", key_path=path, certificate_path=certificate, algorithm="ecdsa-p384-sha384"),
            SigningKey(key_id="c", key_path="other formats read it", algorithm="rsa-pss-sha512"),
            SigningKey(key_id="d", key_path="other formats read it", algorithm="ecdsa-p521-sha512"),
        )
    )
    key = fingerprint(private_key("p384").public_key()).hex()
    async with open_signer(config, services("cosign")) as opened:
        assert opened.keys() == [
            KeyInfo(name="a", kind="signing key", algorithm="ecdsa-p384-sha384", fingerprint=key),
            KeyInfo(
                name="b",
                kind="signing key",
                algorithm="ecdsa-p384-sha384",
                fingerprint=key,
                expires_at=NOW + DAY.total_seconds(),
            ),
        ]
        assert set(opened.files) == {path, certificate, "other formats read it"}
        with pytest.raises(Denied, match="there is no such key"):
            await opened.sign(REPOSITORY, IMAGE, "c")


async def test_a_digest_that_is_longer_than_a_tag() -> None:
    """The older layout has no place for it, which is said where there is no other."""
    (made,) = await signer().sign(REPOSITORY, LONG, "release")
    judgement = judged(trust(), made, LONG)
    assert (judgement.good, made.tag) == (True, None)
    with pytest.raises(Denied, match="no place for a digest of this length"):
        await signer("legacy").sign(REPOSITORY, LONG, "release")


@pytest.mark.parametrize("intermediate", [False, True])
async def test_a_certificate_comes_along(root: Authority, intermediate: bool) -> None:
    key, middle = private_key("ed25519"), Authority("middle", root)
    chain = (middle.issue(key=key), middle.certificate) if intermediate else (root.issue(key=key),)
    before, bundled = await signer(key=key, chain=chain).sign(REPOSITORY, IMAGE, "release")
    annotations = json.loads(before.manifest)["layers"][0]["annotations"]
    assert annotations[legacy.CERTIFICATE].encode() == chain[0].public_bytes(Encoding.PEM)
    assert annotations[legacy.CHAIN].encode() == b"".join(one.public_bytes(Encoding.PEM) for one in chain[1:])
    material = json.loads(bundled.blobs[0])["verificationMaterial"]
    assert list(material) == ["x509CertificateChain" if intermediate else "certificate"]
    for artifact in (before, bundled):
        judgement = judged(vouching(root.certificate), artifact)
        assert (judgement.good, judgement.algorithm) == (True, "ed25519")


@pytest.mark.parametrize("name", ["p256", "p384", "rsa-2048", "ed25519"])
async def test_every_algorithm(name: str) -> None:
    key = private_key(name)
    for artifact in await signer(key=key).sign(REPOSITORY, IMAGE, "release"):
        assert judged(trust(key=key), artifact).good
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert public not in artifact.manifest


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])), max_size=4
    )
)
async def test_any_annotations(annotations: dict[str, str]) -> None:
    made: list[Signature] = [*await signer().sign(REPOSITORY, IMAGE, "release", annotations=annotations)]
    for artifact in made:
        judgement = judged(trust(), artifact)
        assert (judgement.good, judgement.signed_at) == (True, NOW)


async def test_two_keys_of_one_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_bytes(pem(private_key("p256")))
    twice = SigningConfig(signing_keys=(SigningKey(key_id="a", key_path=str(path)),) * 2)
    with pytest.raises(StartError, match="two signing keys are called 'a'"):
        async with open_signer(twice, services("cosign")):
            pass
