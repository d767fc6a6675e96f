"""Keys are refused at once that could make no good signature, and say nothing of their secrets."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from drift_sign_notation import manifest, plugin
from drift_sign_notation.algorithms import fingerprint
from drift_sign_notation.config import SigningConfig
from drift_sign_notation.keys import load_signing_keys
from drift_sign_notation.signer import WRITERS, NotationSigner
from drift_sign_notation.verification import READERS
from msgspec.structs import replace

from drift_core.api import Denied, KeyInfo, Secret, StartError
from drift_core.api import SigningKey as SigningKeyConfig
from drift_core.conformance import lending
from drift_core.conformance.suites.signing import IMAGE

from .artifacts import judge
from .authorities import DAY, NOW, Certified, pem

ROOT = Certified.root()
SIGNER = ROOT.signer()
PASSWORD = "correct horse"


def config_of(folder: Path, signer: Certified, chain: bytes | None = None, **keys: Any) -> SigningKeyConfig:
    certificate = folder / "chain.pem"
    certificate.write_bytes(pem(*signer.chain) if chain is None else chain)
    key = signer.write_key(folder / "key.pem")
    return SigningKeyConfig(key_id="release", key_path=key, certificate_path=str(certificate), **keys)


@pytest.mark.parametrize("kind", ["ec256", "ec384", "ec521", "rsa2048", "rsa3072", "rsa4096"])
@pytest.mark.parametrize("envelope", ["jws", "cose"])
async def test_a_key_from_files_signs(tmp_path: Path, kind: str, envelope: str) -> None:
    signer = ROOT.authority(kind="ec384").signer(kind=kind)
    loaded = load_signing_keys([config_of(tmp_path, signer)])
    (signature,) = await NotationSigner(loaded, envelope).sign("team/app", IMAGE, "release")
    judgement = judge(ROOT, signature)
    assert (judgement.good, judgement.algorithm) == (True, loaded["release"].algorithm.name)
    (layer,) = json.loads(signature.manifest)["layers"]
    assert layer["mediaType"] == WRITERS[envelope][0]


def test_an_encrypted_key(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path, SIGNER), password=Secret(PASSWORD))
    path = Path(SIGNER.write_key(tmp_path / "key.pem", PASSWORD.encode()))
    (key,) = load_signing_keys([config]).values()
    assert repr(key) == "SigningKey('release', ecdsa-p256-sha256)"
    assert PASSWORD not in f"{config!r}{key!r}{NotationSigner({'release': key})!r}"
    for password in (None, Secret("wrong horse")):
        with pytest.raises(
            StartError, match=r"key\.pem: the private key cannot be read, or its password is wrong"
        ) as no:
            load_signing_keys([replace(config, password=password)])
        assert "horse" not in str(no.value)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StartError, match="cannot be read"):
        load_signing_keys([config])


def test_keys_of_other_formats_are_left_to_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, SIGNER)
    for other in (
        replace(config, certificate_path=None),
        replace(config, algorithm="ed25519", key_path="/nowhere"),
        replace(config, algorithm="rsa-pkcs1-sha256"),
    ):
        assert load_signing_keys([other]) == {}
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path(config.key_path).write_bytes(private)
    assert load_signing_keys([config]) == {}
    with pytest.raises(StartError, match=r"key\.pem: the key is neither"):
        load_signing_keys([replace(config, algorithm="ecdsa-p256-sha256")])


def test_the_algorithm_has_to_be_that_of_the_key(tmp_path: Path) -> None:
    config = config_of(tmp_path, SIGNER, algorithm="ecdsa-p256-sha256")
    assert load_signing_keys([config]).keys() == {"release"}
    with pytest.raises(StartError, match="is ecdsa-p256-sha256, not ecdsa-p384-sha384"):
        load_signing_keys([replace(config, algorithm="ecdsa-p384-sha384")])


def test_two_keys_of_one_name(tmp_path: Path) -> None:
    config = config_of(tmp_path, SIGNER)
    with pytest.raises(StartError, match="two keys 'release'"):
        load_signing_keys([config, config])


@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        (ROOT.signer(purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "codeSigning"),
        (ROOT.signer(usages=["key_agreement"]), "digitalSignature"),
        (ROOT.signer(ca=True), "authority"),
        (ROOT.signer(kind="rsa1024"), "neither RSA of 2048"),
        (ROOT.signer(kind="k256"), "neither RSA of 2048"),
        (Certified.root(kind="rsa1024").signer(), "fewer than 2048"),
        (ROOT.authority(ca=False).signer(), "no authority"),
        (Certified(SIGNER.key, SIGNER.chain[:1]), "does not end with a self-signed root"),
        (Certified(SIGNER.key, SIGNER.chain[::-1]), "authority"),
        (Certified(ROOT.signer().key, SIGNER.chain), "not that of the key"),
        (Certified.root(path_length=0).authority().signer(), "path"),
    ],
)
def test_certificates_that_are_not_fit(tmp_path: Path, signer: Certified, reason: str) -> None:
    with pytest.raises(StartError, match=rf"{tmp_path}/(key|chain)\.pem: .*{reason}"):
        load_signing_keys([config_of(tmp_path, signer)])


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    config = config_of(tmp_path, SIGNER)
    for chain in (b"", b"x", SIGNER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        with pytest.raises(StartError, match=r"chain\.pem: a certificate is malformed"):
            load_signing_keys([config_of(tmp_path, SIGNER, chain)])
    config = config_of(tmp_path, SIGNER)
    for content in (b"", b"x", pem(SIGNER.certificate)):
        Path(config.key_path).write_bytes(content)
        with pytest.raises(StartError, match=r"key\.pem: the private key"):
            load_signing_keys([config])
    for missing in (
        {"key_path": "/nowhere"},
        {"key_path": SIGNER.write_key(tmp_path / "key.pem"), "certificate_path": "/nowhere"},
    ):
        with pytest.raises(StartError, match=r"^/nowhere: No such file or directory"):
            load_signing_keys([replace(config, **missing)])


async def test_a_certificate_that_is_not_valid_now_signs_nothing(tmp_path: Path) -> None:
    for options in ({"ends": NOW - DAY, "begins": NOW - 2 * DAY}, {"begins": NOW + DAY}):
        signer = Certified.root(begins=NOW - 9 * DAY).signer(**options)
        loaded = load_signing_keys([config_of(tmp_path, signer)])
        with pytest.raises(Denied) as refused:
            await NotationSigner(loaded).sign("team/app", IMAGE, "release")
        assert refused.value.detail["key_id"] == "release"


async def test_a_lifetime_is_written_into_the_signature() -> None:
    for envelope in ("jws", "cose"):
        signer = NotationSigner({"release": SIGNER.signing_key()}, envelope, 60, NOW.timestamp)
        (signature,) = await signer.sign("team/app", IMAGE, "release")
        judgement = judge(ROOT, signature)
        assert (judgement.signed_at, judgement.valid_until) == (NOW.timestamp(), NOW.timestamp() + 60)


@pytest.mark.parametrize("envelope", ["jws", "cose"])
async def test_annotations_are_signed_as_user_metadata(envelope: str) -> None:
    signer = NotationSigner({"release": SIGNER.signing_key()}, envelope)
    (signature,) = await signer.sign("team/app", IMAGE, "release", annotations={"build": "42"}, tagged={"x": b"{}"})
    assert judge(ROOT, signature).good
    media_type, content = manifest.read(signature, IMAGE)
    signed = json.loads(READERS[media_type](content).payload)
    assert signed["targetArtifact"]["annotations"] == {"build": "42"}
    (bare,) = await signer.sign("team/app", IMAGE, "release")
    media_type, content = manifest.read(bare, IMAGE)
    assert "annotations" not in json.loads(READERS[media_type](content).payload)["targetArtifact"]
    with pytest.raises(Denied, match="reserved"):
        await signer.sign("team/app", IMAGE, "release", annotations={"io.cncf.notary.x": "1"})


async def test_what_the_signer_says_of_its_keys(tmp_path: Path) -> None:
    ends = NOW + 3 * DAY
    config = config_of(tmp_path, Certified.root(ends=NOW + 9 * DAY).authority(ends=ends).signer(ends=NOW + 5 * DAY))
    (driver,) = plugin.drift_signers()
    async with driver.open(SigningConfig(signing_keys=(config,)), lending.services()) as signer:
        (key,) = load_signing_keys([config]).values()
        info = KeyInfo(
            name="release",
            kind="signing key",
            algorithm="ecdsa-p256-sha256",
            fingerprint=fingerprint(key.private.public_key()),
            expires_at=ends.timestamp(),
        )
        assert list(signer.keys()) == [info]
        assert list(signer.files) == [config.key_path, config.certificate_path]


@pytest.mark.parametrize("envelope", ["jws", "cose"])
async def test_what_would_be_too_large_to_be_read(envelope: str) -> None:
    signer = NotationSigner({"release": SIGNER.signing_key()}, envelope)
    with pytest.raises(Denied, match="larger than what is read"):
        await signer.sign("team/app", IMAGE, "release", annotations={"x": "y" * manifest.LARGEST_ENVELOPE})


def test_a_key_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(SIGNER.signing_key())
