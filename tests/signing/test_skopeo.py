"""skopeo signs by OpenPGP what it pushes, and takes only what is signed: the simple signatures of containers/image."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.inspection import PATIENCE
from tests.oci.client import Registry, refused
from tests.signing.place import ENFORCED, Place, pulled, push_image, sign, verify
from tests.tools import tool

KEYS = {"ours": "rsa3072", "theirs": "ed25519"}


class Pgp:
    """A folder of GnuPG with a key of each kind, whose fingerprints are by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700)
        self.fingerprints = {name: self._generate(name, kind) for name, kind in KEYS.items()}

    def run(self, *words: str) -> bytes:
        command = [tool("gpg"), "--batch", "--passphrase", "", "--pinentry-mode", "loopback", *words]
        done = subprocess.run(command, env=self.environment(), capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self.home), "HOME": str(self.folder)}

    def _generate(self, name: str, kind: str) -> str:
        self.run("--quick-generate-key", f"{name}@example.org", kind, "sign", "1y")
        listed = self.run("--with-colons", "--list-keys", f"{name}@example.org").decode()
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        (self.folder / f"{name}.asc").write_bytes(self.run("--armor", "--export", fingerprint))
        (self.folder / f"{name}.secret.asc").write_bytes(self.run("--armor", "--export-secret-keys", fingerprint))
        return fingerprint


@pytest.fixture(scope="module")
def pgp(tmp_path_factory: pytest.TempPathFactory) -> Pgp:
    return Pgp(tmp_path_factory.mktemp("skopeo"))


@pytest.fixture(scope="module")
def place(pgp: Pgp) -> Iterator[Place]:
    simple = {
        "signing_keys": [{"key_id": "ours", "key_path": str(pgp.folder / "ours.secret.asc")}],
        "verification_keys": [
            {"key_id": name, "key_path": str(pgp.folder / f"{name}.asc")} for name in pgp.fingerprints
        ],
    }
    policy = {
        **ENFORCED,
        "allowed_signature_formats": ["simple"],
        "allowed_algorithms": ["rsa-pkcs1-sha256", "rsa-pkcs1-sha512", "ed25519"],
    }
    with Place(pgp.folder / "registry", policy, signing={"simple": simple}) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


@pytest.fixture
def bob(place: Place) -> Iterator[Registry]:
    with place.client("bob") as client:
        yield client


def skopeo(pgp: Pgp, *words: str, user: str = "ann", good: bool = True) -> str:
    """Runs skopeo as somebody, who takes nothing from the registry but what is signed by our key."""
    policy = pgp.folder / "policy.json"
    rule = {
        "type": "signedBy",
        "keyType": "GPGKeys",
        "keyPath": str(pgp.folder / "ours.asc"),
        "signedIdentity": {"type": "matchRepository"},
    }
    accepting = [{"type": "insecureAcceptAnything"}]
    policy.write_text(json.dumps({"default": accepting, "transports": {"docker": {"": [rule]}}}))
    command = [tool("skopeo"), "--policy", str(policy), "copy", *words]
    login = f"{user}:{user}-password"
    if any(word.startswith("docker://") for word in words[:-1]):
        command += ["--src-tls-verify=false", "--src-creds", login]
    if words[-1].startswith("docker://"):
        command += ["--dest-tls-verify=false", "--dest-creds", login]
    done = subprocess.run(command, env=pgp.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode == 0) is good, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_skopeo_signs(place: Place, pgp: Pgp, root: Registry, bob: Registry, tmp_path: Path) -> None:
    push_image(root, "theirs/app", "plain")
    source = f"oci:{tmp_path / 'image'}:one"
    # It may be fetched without a signature by who may push.
    permissive = tmp_path / "permissive.json"
    permissive.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    fetched = [tool("skopeo"), "--policy", str(permissive), "copy", "--src-tls-verify=false", "--src-creds"]
    fetched += ["ann:ann-password", f"docker://{place.server.host}/theirs/app:plain", source]
    subprocess.run(fetched, env=pgp.environment(), capture_output=True, timeout=PATIENCE, check=True)
    for name in ("ours", "theirs"):
        target = f"docker://{place.server.host}/theirs/app:{name}"
        skopeo(pgp, "--sign-by", pgp.fingerprints[name], source, target)
    # Both have the same digest, so that it has two signatures by two keys.
    found = verify(root, "theirs/app", "ours")
    assert sorted((one["key_id"], one["trusted"]) for one in found["signatures"]) == [("ours", True), ("theirs", True)]
    assert {f"openpgp {one.lower()}" for one in pgp.fingerprints.values()} == set(found["signers"])
    assert pulled(bob, "theirs/app", "ours") == 200
    skopeo(pgp, f"docker://{place.server.host}/theirs/app:ours", f"dir:{tmp_path / 'pulled'}", user="bob")


def test_what_is_signed_here(place: Place, pgp: Pgp, root: Registry, bob: Registry, tmp_path: Path) -> None:
    image = f"docker://{place.server.host}/ours/app:one"
    push_image(root, "ours/app", "one")
    assert "not signed" in skopeo(pgp, image, f"dir:{tmp_path / 'refused'}", user="bob", good=False)
    assert "signature" in skopeo(pgp, image, f"dir:{tmp_path / 'unsigned'}", good=False)
    (made,) = sign(root, "ours/app", "one", key_id="ours", formats=["simple"])
    assert made["tag"] is None
    skopeo(pgp, image, f"dir:{tmp_path / 'signed'}", user="bob")
    assert pulled(bob, "ours/app", "one") == 200


def test_the_extension(place: Place, root: Registry, bob: Registry) -> None:
    manifest = push_image(root, "ext/app", "one")
    sign(root, "ext/app", "one", key_id="ours", formats=["simple"])
    path = f"/extensions/v2/ext/app/signatures/{manifest.digest}"
    (signature,) = bob.get(path).json()["signatures"]
    assert (signature["type"], signature["schemaVersion"]) == ("atomic", 2)
    assert bob.get("/v2/").headers["x-registry-supports-signatures"] == "1"
    with Registry(place.server.url) as nobody:
        answer = nobody.get("/v2/")
        assert (answer.status_code, answer.headers["x-registry-supports-signatures"]) == (401, "1")
        assert nobody.get(path).status_code == 401
    body = json.dumps(signature).encode()
    refused(bob.put(path, None, body), 403, "DENIED")
    # The same once more is the same.
    assert root.put(path, None, body).status_code == 201
    assert len(bob.get(path).json()["signatures"]) == 1
    for changes, status in (
        ({"type": "other"}, 400),
        ({"name": "sha256:0@1"}, 400),
        ({"content": "%"}, 400),
        ({"schemaVersion": 3}, 400),
        ({"content": "bm90aGluZw=="}, 403),
    ):
        assert root.put(path, None, json.dumps(signature | changes).encode()).status_code == status, changes
    missing = f"sha256:{'0' * 64}"
    other = json.dumps(signature | {"name": f"{missing}@{'0' * 32}"}).encode()
    refused(root.put(f"/extensions/v2/ext/app/signatures/{missing}", None, other), 404, "MANIFEST_UNKNOWN")
    assert bob.get(f"/extensions/v2/ext/app/signatures/{missing}").json()["signatures"] == []
    assert bob.get("/extensions/v2/ext/app/signatures/none").status_code == 400
    assert bob.get("/extensions/v2/ext/app").status_code == 404
