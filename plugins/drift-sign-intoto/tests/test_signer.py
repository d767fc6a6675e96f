"""What the signer writes, and what it refuses to attest."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from drift_sign_cosign.algorithms import fingerprint
from drift_sign_cosign.statement import SIGNED
from drift_sign_intoto.config import InTotoConfig, SigningConfig
from drift_sign_intoto.signer import LARGEST, Predicate, load_predicate, open_signer

from drift_core.api import Denied, Descriptor, Digest, KeyInfo, SigningKey, StartError
from drift_core.conformance import services

from .conftest import IMAGE, MANIFEST, NOW, REPOSITORY, TYPE, artifact, judged, private_key, signer, trust


def shape(node: Any) -> Any:
    """Returns JSON with its members in their order, and of each text only that it is one."""
    if isinstance(node, dict):
        return [(name, shape(value)) for name, value in node.items()]
    return [shape(one) for one in node] if isinstance(node, list) else type(node)


async def test_what_is_signed() -> None:
    made = signer(registry_name="registry.example:5000")
    (written,) = await made.sign(REPOSITORY, IMAGE, "release", annotations={"b": "\N{SNOWMAN}"})
    assert json.loads(b64decode(json.loads(written.blobs[0])["dsseEnvelope"]["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "name": "registry.example:5000/team/app",
                "digest": {"sha256": IMAGE.digest.partition(":")[2]},
                "annotations": {"b": "\N{SNOWMAN}", "timestamp": str(int(NOW))},
            }
        ],
        "predicateType": TYPE,
        "predicate": {"by": "somebody"},
    }
    judgement = judged(trust(), written)
    assert (judgement.good, judgement.key_id, judgement.signed_at) == (True, "release", NOW)


async def test_it_is_what_cosign_writes() -> None:
    """Member by member, but for one that cosign has by mistake, and its older statement without annotations."""
    (written,) = await signer(predicate=Predicate("https://drift.example/custom/v1", {"hello": "world"})).sign(
        REPOSITORY, IMAGE, "release"
    )
    expected = artifact("cosign-v3-bundle-attest-custom")
    manifests = [json.loads(one.manifest) for one in (written, expected)]
    del manifests[1]["config"]["artifactType"]
    assert shape(manifests[0]) == shape(manifests[1])
    for name in ("artifactType", "subject"):
        assert manifests[0][name] == manifests[1][name]
    kind = "dev.sigstore.bundle.predicateType"
    assert manifests[0]["annotations"][kind] == manifests[1]["annotations"][kind]
    bundles = [json.loads(one.blobs[0]) for one in (written, expected)]
    assert shape(bundles[0]) == shape(bundles[1])
    statements = [json.loads(b64decode(one["dsseEnvelope"]["payload"])) for one in bundles]
    del statements[0]["subject"][0]["annotations"]
    assert shape(statements[0]) == shape(statements[1])
    assert statements[0]["predicate"] == statements[1]["predicate"]


async def test_a_repository_without_a_registry() -> None:
    (written,) = await signer().sign(REPOSITORY, IMAGE, "release")
    payload = json.loads(b64decode(json.loads(written.blobs[0])["dsseEnvelope"]["payload"]))
    assert payload["subject"][0]["name"] == REPOSITORY


async def test_a_digest_by_sha512() -> None:
    subject = Descriptor(MANIFEST, str(Digest.of(b"image", "sha512")), 5)
    (written,) = await signer().sign(REPOSITORY, subject, "release")
    assert judged(trust(), written, subject).good


async def test_without_a_predicate(tmp_path: Path) -> None:
    """There is no default that would say nothing."""
    path = tmp_path / "key"
    path.write_bytes(private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    config = SigningConfig(signing_keys=(SigningKey(key_id="release", key_path=str(path)),))
    async with open_signer(config, services("in-toto")) as opened:
        assert opened.keys() == []
        with pytest.raises(Denied, match=r"configure signing\.in_toto\.predicate_path and predicate_type"):
            await opened.sign(REPOSITORY, IMAGE, "release")


async def test_from_files(tmp_path: Path) -> None:
    key, predicate = tmp_path / "key", tmp_path / "predicate"
    key.write_bytes(private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    predicate.write_text('{ "by": ["somebody", 1.5, null] }')
    config = SigningConfig(
        signing_keys=(SigningKey(key_id="release", key_path=str(key)),),
        in_toto=InTotoConfig(predicate_path=str(predicate), predicate_type=TYPE),
    )
    async with open_signer(config, services("in-toto")) as opened:
        said = fingerprint(private_key().public_key()).hex()
        assert opened.keys() == [
            KeyInfo(name="release", kind="signing key", algorithm="ecdsa-p256-sha256", fingerprint=said)
        ]
        assert set(opened.files) == {str(key), str(predicate)}
        (written,) = await opened.sign(REPOSITORY, IMAGE, "release")
    assert judged(trust(), written, now=NOW).good
    payload = json.loads(b64decode(json.loads(written.blobs[0])["dsseEnvelope"]["payload"]))
    assert payload["predicate"] == {"by": ["somebody", 1.5, None]}


async def test_a_large_predicate(tmp_path: Path) -> None:
    """The largest that is taken makes a bundle that is read."""
    path = tmp_path / "predicate"
    path.write_text(json.dumps({"a": "x" * (LARGEST - 9)}))
    assert path.stat().st_size == LARGEST
    predicate = load_predicate(InTotoConfig(predicate_path=str(path), predicate_type=TYPE))
    (written,) = await signer(predicate=predicate).sign(REPOSITORY, IMAGE, "release")
    assert judged(trust(), written).good


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the predicate is no strict JSON"),
        (b"{", "the predicate is no strict JSON"),
        (b'{"a":1,"a":1}', "the predicate is no strict JSON"),
        (b"[]", "it is no JSON object"),
        (b'{"a":1e999}', "the predicate is no strict JSON"),
        (b'{"a":"\\ud800"}', "surrogates not allowed"),
        (b'{"a":"%s"}' % (b"x" * LARGEST), "it has more than 1048576 bytes"),
    ],
)
def test_what_is_no_predicate(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "predicate"
    path.write_bytes(content)
    with pytest.raises(StartError) as failed:
        load_predicate(InTotoConfig(predicate_path=str(path), predicate_type=TYPE))
    assert str(failed.value).startswith(f"{path}: the predicate cannot be used: ")
    assert reason in str(failed.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"predicate_path": "/a"}, "of no use without one another"),
        ({"predicate_type": TYPE}, "of no use without one another"),
        ({"predicate_path": "/a", "predicate_type": SIGNED}, "which the format cosign makes"),
        ({"predicate_path": "/no/such/file", "predicate_type": TYPE}, "No such file or directory"),
        ({"predicate_path": "\0", "predicate_type": TYPE}, "embedded null byte"),
    ],
)
def test_what_cannot_be_attested(options: dict[str, str], reason: str) -> None:
    with pytest.raises(StartError, match=reason):
        load_predicate(InTotoConfig(**options))
