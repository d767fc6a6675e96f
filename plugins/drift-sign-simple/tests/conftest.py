"""A GnuPG of the tests' own with its keys, and what is made and judged by them."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from drift_sign_simple.artifact import write_artifact
from drift_sign_simple.config import Remap, SigningConfig, SimpleConfig, SimpleSigningKey, SimpleVerificationKey
from drift_sign_simple.keys import load_signing_keys, load_trust
from drift_sign_simple.signer import SimpleSigner
from drift_sign_simple.trust import Trust
from drift_sign_simple.verifier import SimpleVerifier

from drift_core.api import Descriptor, Judgement, Secret
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY

DAY = 86400.0
REGISTRY = "registry.example"
REFERENCE = f"{REGISTRY}/{REPOSITORY}:v1"
ALGORITHMS = {
    "rsa3072": "rsa-pkcs1-sha512",
    "ed25519": "ed25519",
    "nistp256": "ecdsa-p256-sha256",
    "nistp384": "ecdsa-p384-sha384",
    "nistp521": "ecdsa-p521-sha512",
}
"""How GnuPG signs, with what it takes for a key."""


class Gnupg:
    """GnuPG with a folder for its keys, each of which is called by its user id."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._made: dict[str, str] = {}
        self.secret = cache(self._secret)

    def run(self, *arguments: str, content: bytes = b"", password: str = "", now: float | None = None) -> bytes:
        faked = [] if now is None else ["--faked-system-time", f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}!"]
        done = subprocess.run(
            [
                *(
                    "gpg",
                    "--homedir",
                    str(self.home),
                    "--batch",
                    "--yes",
                    "--quiet",
                    "--no-tty",
                    "--trust-model",
                    "always",
                ),
                *("--pinentry-mode", "loopback", "--passphrase", password, *faked, *arguments),
            ],
            input=content,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(
        self, name: str, algorithm: str = "", expires: str = "never", password: str = "", now: float | None = None
    ) -> str:
        """Makes a key once, and returns its fingerprint; it is for the algorithm it is called by, or for Ed25519."""
        if name not in self._made:
            algorithm = algorithm or (name if name in ALGORITHMS else "ed25519")
            self.run("--quick-generate-key", name, algorithm, "sign", expires, password=password, now=now)
            self._made[name] = self.fingerprints(name)[0]
        return self._made[name]

    def fingerprints(self, name: str) -> list[str]:
        """Returns the fingerprints of the primary key and of the subkeys."""
        lines = self.run("--with-colons", "--list-keys", f"={name}").decode().splitlines()
        return [line.split(":")[9].lower() for line in lines if line.startswith("fpr:")]

    def certificate(self, name: str, *options: str) -> bytes:
        return self.run(*options, "--export", f"={name}")

    def _secret(self, name: str, *options: str, password: str = "") -> bytes:
        return self.run(*options, "--export-secret-keys", f"={name}", password=password)

    def sign(self, name: str, content: bytes, *options: str, how: str = "--sign", now: float | None = None) -> bytes:
        return self.run("--local-user", f"={name}", *options, how, content=content, now=now)

    def revoke(self, name: str) -> None:
        """Takes in the revocation that GnuPG has made together with the key."""
        made = self.home / "openpgp-revocs.d" / f"{self.fingerprints(name)[0].upper()}.rev"
        self.run("--import", content=made.read_bytes().replace(b"\n:-----", b"\n-----"))

    def valid(self, message: bytes) -> tuple[bytes, str]:
        """Returns what a message says, and the fingerprint of the primary key that signed it."""
        path, content, status = (self.home / name for name in ("message", "content", "status"))
        path.write_bytes(message)
        self.run("--verify", str(path))
        self.run("--status-file", str(status), "--output", str(content), "--decrypt", str(path))
        (line,) = [line for line in status.read_text(errors="replace").splitlines() if " VALIDSIG " in line]
        return content.read_bytes(), line.split()[-1].lower()


@pytest.fixture(scope="session")
def gpg() -> Iterator[Gnupg]:
    # The agent's socket is in it, and the name of a socket may not be long.
    home = Path(tempfile.mkdtemp(prefix="simple-", dir="/tmp"))
    yield Gnupg(home)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    shutil.rmtree(home, ignore_errors=True)


def said(reference: str = REFERENCE, digest: str = IMAGE.digest, **optional: Any) -> dict[str, Any]:
    return {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "atomic container signature",
        },
        "optional": {"creator": "atomic 5.23.1", "timestamp": 1795555963, **optional},
    }


def payload(reference: str = REFERENCE, digest: str = IMAGE.digest) -> bytes:
    return json.dumps(said(reference, digest)).encode()


def configured(
    registry_name: str | None = REGISTRY, identity: Any = "repository", remap: tuple[Remap, ...] = ()
) -> SigningConfig:
    return SigningConfig(registry_name=registry_name, simple=SimpleConfig(identity=identity, remap=remap))


CONFIG = configured()


def trusting(folder: Path, *contents: bytes, trusted: bool = True) -> Trust:
    """Returns who trusts certificates, each in a file of its own; the first is ``release``."""
    entries = []
    for number, content in enumerate(contents):
        path = folder / f"certificate-{number}"
        path.write_bytes(content)
        key_id = f"key-{number}" if number else "release"
        entries.append(SimpleVerificationKey(key_id=key_id, key_path=str(path), trusted=trusted))
    return load_trust(SimpleConfig(verification_keys=tuple(entries)))


def signing(folder: Path, content: bytes, password: str | None = None, config: SigningConfig = CONFIG) -> SimpleSigner:
    """Returns who signs as ``release`` by a key from a file."""
    path = folder / "secret"
    path.write_bytes(content)
    secret = None if password is None else Secret(password)
    entry = SimpleSigningKey(key_id="release", key_path=str(path), password=secret)
    return SimpleSigner(config, load_signing_keys(SimpleConfig(signing_keys=(entry,))))


def judged(
    trust: Trust,
    content: bytes,
    subject: Descriptor = IMAGE,
    repository: str = REPOSITORY,
    config: SigningConfig = CONFIG,
    now: float | None = None,
) -> Judgement:
    """Returns the judgement on a message."""
    verifier = SimpleVerifier(config, trust) if now is None else SimpleVerifier(config, trust, lambda: now)
    (judgement,) = asyncio.run(verifier.judge(repository, subject, write_artifact(subject, content)))
    return judgement
