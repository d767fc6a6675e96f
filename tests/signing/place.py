"""A registry with keys, somebody who may do everything, somebody who may push, and somebody who may only pull."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx
import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.faults.inspection import PATIENCE
from tests.oci.client import Registry
from tests.oci.content import Document, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

USERS = {"root": "admin", "ann": "developer", "bob": "viewer"}
ENFORCED = {"require_signatures": True, "max_signature_age_hours": 0}


@cache
def key_pair(name: str) -> tuple[bytes, bytes]:
    """Returns the PEM files of a key on P-256: private and public."""
    del name
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def replace(file: Path, content: bytes) -> None:
    """Puts another file in the place of one, at once, as whoever renews a secret does."""
    other = file.with_suffix(".new")
    other.write_bytes(content)
    other.replace(file)


class Place:
    """A server of its own; ``keys`` sign and are trusted."""

    def __init__(self, folder: Path, policy: dict[str, Any] | None = None, **tables: Any) -> None:
        self.folder = folder
        self.database = ""
        folder.mkdir(parents=True, exist_ok=True)
        self.trust("default", "default")
        self.trust("other", "other")
        signing = {
            "enabled": True,
            "signing_keys": [
                {"key_id": name, "key_path": str(folder / f"{name}.key")} for name in ("default", "other")
            ],
            "verification_keys": [
                {"key_id": name, "public_key_path": str(folder / f"{name}.pub")} for name in ("default", "other")
            ],
            "verification_policy": policy or {},
        }
        config = {
            "auth": {"mode": "basic", "basic": {"users": [f"{name}:{name}-password" for name in USERS]}},
            "rbac": {"enabled": True, "admins": ["root"], "default_role": "viewer"},
            "registry": {"immutable_tags": [], "min_age_days": 0},
            **tables,
        }
        config["signing"] = {**signing, **tables.get("signing", {})}
        self.server = Server(folder, config=folder / "drift.toml")
        config["signing"].setdefault("registry_name", self.server.host)
        (folder / "drift.toml").write_bytes(tomli_w.dumps(config).encode())

    def trust(self, key: str, pair: str) -> None:
        """Makes a key another one."""
        for file, content in zip((f"{key}.key", f"{key}.pub"), key_pair(pair), strict=True):
            replace(self.folder / file, content)

    def client(self, user: str) -> Registry:
        """Returns a client that is logged in; the caller closes it."""
        client = Registry(self.server.url, fresh=True)
        client.http.auth = httpx.BasicAuth(user, f"{user}-password")
        return client

    def start(self) -> None:
        self.server.start()
        with self.client("root") as root:
            granted = root.post("/api/users/ann/roles", None, b'{"role": "developer"}', content_type="application/json")
            assert granted.status_code < 300, granted.text

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()


def drift(place: Place, *words: str, code: int = 0) -> str:
    """Runs a command with the configuration of a place, and returns what it printed; of one that fails all of it."""
    command = [str(DRIFT), *words, *place.server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def push_image(client: Registry, repository: str, tag: str | None = None, **fields: Any) -> Document:
    """Pushes an image that nobody has pushed before."""
    config = client.push_blob(repository, unique_blob())
    layer = client.push_blob(repository, unique_blob())
    return client.push(repository, image(config, layer, **fields), tag)


def sign(root: Registry, repository: str, reference: str, **wanted: Any) -> list[dict[str, Any]]:
    """Has a manifest signed by the server."""
    body = json.dumps({"repository": repository, "reference": reference, **wanted}).encode()
    answer = root.post("/admin/signing/sign", None, body)
    assert answer.status_code == 201, answer.text
    made: list[dict[str, Any]] = answer.json()
    return made


def verify(root: Registry, repository: str, reference: str) -> dict[str, Any]:
    """Has the signatures of a manifest judged by the server."""
    body = json.dumps({"repository": repository, "reference": reference}).encode()
    answer = root.post("/admin/signing/verify", None, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pulled(client: Registry, repository: str, reference: str) -> int:
    """Returns the status of a pull, which is that of HEAD, too."""
    path = f"/v2/{repository}/manifests/{reference}"
    status = client.get(path).status_code
    assert client.head(path).status_code == status
    return status


def always(client: Registry, repository: str, reference: str, status: int) -> bool:
    """Says whether pulls are answered so by whichever worker."""
    path = f"/v2/{repository}/manifests/{reference}"
    return all(client.get(path).status_code == status for _ in range(16))
