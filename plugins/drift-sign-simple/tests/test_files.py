"""Key files that cannot be used: the server does not start, and says which one and why."""

import time
from pathlib import Path

import msgspec
import pytest
from drift_sign_simple.config import SimpleConfig, SimpleSigningKey, SimpleVerificationKey
from drift_sign_simple.keys import load_signing_keys, load_trust
from pysequoia import CipherSuite, Tsk

from drift_core.api import StartError

from . import conftest as made
from .conftest import DAY, Gnupg

EMPTY = b""
JUNK = b"\x99\x01junk"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (EMPTY, "it is empty"),
        (JUNK, "it holds no OpenPGP certificates"),
        (b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "it holds no OpenPGP certificates"),
        (bytes((1 << 20) + 1), "it is too large for a key"),
    ],
)
def test_no_certificate(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(StartError, match=f"'release' cannot be used; {tmp_path}/certificate-0: {reason}$"):
        made.trusting(tmp_path, content)


@pytest.mark.parametrize("algorithm", ["rsa1024", "brainpoolP256r1"])
def test_a_certificate_that_is_too_weak_or_unknown(gpg: Gnupg, tmp_path: Path, algorithm: str) -> None:
    gpg.make(algorithm, algorithm)
    with pytest.raises(StartError, match=f"{tmp_path}/certificate-0: .*too weak"):
        made.trusting(tmp_path, gpg.certificate(algorithm))


def test_a_cut_certificate(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("ed25519")
    with pytest.raises(StartError, match=f"{tmp_path}/certificate-0: "):
        made.trusting(tmp_path, gpg.certificate("ed25519")[:-1])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(EMPTY, "exactly one OpenPGP key"), (JUNK, "exactly one OpenPGP key"), (bytes((1 << 20) + 1), "too large")],
)
def test_no_secret_key(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(StartError, match=f"'release' cannot be used; {tmp_path}/secret: .*{reason}"):
        made.signing(tmp_path, content)


def test_secret_keys_that_cannot_sign(gpg: Gnupg, tmp_path: Path) -> None:
    began = time.time() // DAY * DAY - 3 * DAY
    gpg.make("ed25519")
    gpg.make("nistp256")
    gpg.make("once", "ed25519", "seconds=3600", now=began)
    gpg.run("--quick-generate-key", "certifies", "ed25519", "cert", "never")
    gpg.make("revoked-secret")
    gpg.revoke("revoked-secret")
    for content, reason in (
        (gpg.certificate("ed25519"), "no secret key that may sign"),
        (gpg.secret("once"), "no secret key that may sign"),
        (gpg.secret("certifies"), "no secret key that may sign"),
        (gpg.secret("ed25519") + gpg.secret("nistp256"), "exactly one OpenPGP key"),
        (gpg.secret("nistp256"), "the algorithm ecdsa-p256-sha512 is not taken"),
        (bytes(Tsk.generate("x", cipher_suite=CipherSuite.P384)), "the algorithm ecdsa-p384-sha512 is not taken"),
        (gpg.secret("revoked-secret"), "no secret key that may sign"),
    ):
        with pytest.raises(StartError, match=f"{tmp_path}/secret: .*{reason}"):
            made.signing(tmp_path, content)


@pytest.mark.parametrize("path", ["/nowhere/key", "/tmp", "/tmp/\0"])
def test_files_that_cannot_be_read(path: str) -> None:
    signing = SimpleConfig(signing_keys=(SimpleSigningKey(key_id="a", key_path=path),))
    trusting = SimpleConfig(verification_keys=(SimpleVerificationKey(key_id="a", key_path=path),))
    with pytest.raises(StartError, match="it cannot be read: "):
        load_signing_keys(signing)
    with pytest.raises(StartError, match="it cannot be read: "):
        load_trust(trusting)


def test_two_of_a_name(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("ed25519")
    path = tmp_path / "key"
    path.write_bytes(gpg.secret("ed25519"))
    signing, trusting = (
        tuple(entry(key_id="a", key_path=str(path)) for _ in range(2))
        for entry in (SimpleSigningKey, SimpleVerificationKey)
    )
    with pytest.raises(StartError, match="two signing keys are called 'a'"):
        load_signing_keys(SimpleConfig(signing_keys=signing))
    with pytest.raises(StartError, match="two verification keys are called 'a'"):
        load_trust(SimpleConfig(verification_keys=trusting))


def test_a_certificate_twice(gpg: Gnupg, tmp_path: Path) -> None:
    """Nobody knows otherwise by which name, and whether, it is trusted."""
    gpg.make("ed25519")
    certificate = gpg.certificate("ed25519")
    with pytest.raises(StartError, match=f"two certificates have the fingerprint '{gpg.fingerprints('ed25519')[0]}'"):
        made.trusting(tmp_path, certificate, certificate)


@pytest.mark.parametrize(
    "table",
    [
        {"signing_keys": [{"key_id": "a b", "key_path": "x"}]},
        {"signing_keys": [{"key_id": "a", "key_path": ""}]},
        {"verification_keys": [{"key_id": "a"}]},
        {"identity": "exact"},
        {"remap": [{"prefix": "registry.example/", "signed_prefix": "other.example"}]},
        {"remap": [{"prefix": "registry.example", "signed_prefix": ""}]},
    ],
)
def test_tables_that_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, SimpleConfig)
