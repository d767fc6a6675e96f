"""What is signed here, and what other clients say of it."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from drift_sign_simple.artifact import read_artifact
from drift_sign_simple.signer import SimpleSigner
from pysequoia import CipherSuite, Profile, Tsk

from drift_core.api import Denied, Descriptor, Digest, StartError
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY

from . import conftest as made
from .conftest import Gnupg, judged

SIGNS = {"rsa3072": "rsa-pkcs1-sha512", "ed25519": "ed25519", "nistp521": "ecdsa-p521-sha512"}


def signed(signer: SimpleSigner, annotations: Mapping[str, str] = {}, subject: Descriptor = IMAGE) -> bytes:
    """Returns the message of one signature."""
    (artifact,) = asyncio.run(signer.sign(REPOSITORY, subject, "release", annotations=annotations))
    assert artifact.tag is None
    return read_artifact(artifact, subject)


@pytest.mark.parametrize("algorithm", SIGNS)
def test_gnupg_verifies(gpg: Gnupg, tmp_path: Path, algorithm: str) -> None:
    gpg.make(algorithm, algorithm)
    signer = made.signing(tmp_path, gpg.secret(algorithm))
    content, fingerprint = gpg.valid(signed(signer, {"team": "x", "build": "42"}))
    assert fingerprint == gpg.fingerprints(algorithm)[0]
    said = json.loads(content)
    timestamp = said["optional"].pop("timestamp")
    assert abs(timestamp - time.time()) < 60
    assert (
        content
        == (
            f'{{"critical":{{"identity":{{"docker-reference":"registry.example/team/app"}},'
            f'"image":{{"docker-manifest-digest":"{IMAGE.digest}"}},"type":"atomic container signature"}},'
            f'"optional":{{"build":"42","creator":"drift","team":"x","timestamp":{timestamp}}}}}'
        ).encode()
    )
    assert judged(made.trusting(tmp_path, gpg.certificate(algorithm)), signed(signer)).fingerprint == fingerprint
    (info,) = signer.keys()
    assert info.fingerprint == fingerprint
    assert (info.name, info.kind, info.algorithm, info.expires_at) == ("release", "signing key", SIGNS[algorithm], None)


@pytest.mark.parametrize("algorithm", SIGNS)
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo(gpg: Gnupg, tmp_path: Path, algorithm: str) -> None:
    """What is signed here skopeo takes, and what it signs is good here."""
    fingerprint = gpg.make(algorithm, algorithm)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}')
    subject = Descriptor(IMAGE.media_type, str(Digest.of(manifest.read_bytes())), manifest.stat().st_size)

    def skopeo(*arguments: str) -> bytes:
        environment = {"GNUPGHOME": str(gpg.home), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(["skopeo", *arguments], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(signed(made.signing(tmp_path, gpg.secret(algorithm)), subject=subject))
    verified = skopeo(
        "standalone-verify", str(manifest), f"{made.REGISTRY}/{REPOSITORY}", fingerprint.upper(), str(ours)
    )
    assert subject.digest.encode() in verified
    skopeo("standalone-sign", str(manifest), made.REFERENCE, fingerprint, "--output", str(theirs))
    judgement = judged(made.trusting(tmp_path, gpg.certificate(algorithm)), theirs.read_bytes(), subject)
    assert judgement.good, judgement.reason


def test_without_a_registry_name(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("ed25519")
    signer = made.signing(tmp_path, gpg.secret("ed25519"), config=made.configured(registry_name=None))
    content, _ = gpg.valid(signed(signer))
    assert json.loads(content)["critical"]["identity"] == {"docker-reference": REPOSITORY}


@pytest.mark.parametrize("profile", [Profile.RFC4880, Profile.RFC9580], ids=["4", "6"])
@pytest.mark.parametrize(
    ("suite", "algorithm"),
    [(CipherSuite.Cv25519, "ed25519"), (CipherSuite.P521, "ecdsa-p521-sha512")],
    ids=["ed25519", "p521"],
)
def test_newer_keys(tmp_path: Path, profile: Profile, suite: CipherSuite, algorithm: str) -> None:
    """A key of either version, with a subkey that signs."""
    secret = Tsk.generate("newer", cipher_suite=suite, profile=profile, validity_seconds=3600)
    content = signed(made.signing(tmp_path, bytes(secret)))
    trust = made.trusting(tmp_path, bytes(secret.extract_certificate()))
    judgement = judged(trust, content)
    assert (judgement.good, judgement.algorithm) == (True, algorithm), judgement.reason
    assert judgement.signer == f"openpgp {secret.extract_certificate().fingerprint}"
    assert judgement.valid_until is not None
    assert 3500 < judgement.valid_until - time.time() <= 3600


def test_a_secret_key_says_whom_to_trust(gpg: Gnupg, tmp_path: Path) -> None:
    """What is trusted is a certificate all the same."""
    gpg.make("ed25519")
    trust = made.trusting(tmp_path, gpg.secret("ed25519", "--armor"))
    assert judged(trust, signed(made.signing(tmp_path, gpg.secret("ed25519")))).good
    assert "PRIVATE" not in str(trust.certificates[0].cert)


@pytest.mark.parametrize("name", ["creator", "timestamp"])
def test_annotations_that_are_the_signer_s_own(gpg: Gnupg, tmp_path: Path, name: str) -> None:
    gpg.make("ed25519")
    with pytest.raises(Denied, match="what the signer says itself"):
        signed(made.signing(tmp_path, gpg.secret("ed25519")), {name: "x"})


def test_annotations_that_are_too_large(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("ed25519")
    signer = made.signing(tmp_path, gpg.secret("ed25519"))
    with pytest.raises(Denied, match="more than 131072 bytes"):
        signed(signer, {"x": "x" * (128 << 10)})
    assert gpg.valid(signed(signer, {"x": "x" * (120 << 10)}))


def test_a_key_that_expires_meanwhile(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("short", "ed25519", "seconds=36000")
    (key,) = made.signing(tmp_path, gpg.secret("short"))._keys.values()
    ends = key.expires_at
    assert ends is not None
    assert 35900 < ends - time.time() <= 36000
    assert signed(SimpleSigner(made.CONFIG, [key], lambda: ends - 1))
    with pytest.raises(Denied, match="the key has expired"):
        signed(SimpleSigner(made.CONFIG, [key], lambda: ends))


def test_an_encrypted_key(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("sealed", "ed25519", password="seal")
    secret = gpg.secret("sealed", password="seal")
    assert gpg.valid(signed(made.signing(tmp_path, secret, "seal")))
    for password in ("wrong password", None):
        with pytest.raises(StartError, match=f"{tmp_path}/secret: .* the password is wrong or missing$") as failed:
            made.signing(tmp_path, secret, password)
        assert "wrong password" not in str(failed.value)
