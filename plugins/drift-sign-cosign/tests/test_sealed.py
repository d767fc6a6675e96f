"""Private keys in the form of ``cosign generate-key-pair``."""

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from drift_sign_cosign.keys import load_signing_key, read_private_key
from drift_sign_cosign.refusal import Refused

from drift_core.api import Secret, SigningKey

from .conftest import pem, private_key

PASSWORD = "pw"
LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"


def nothing(_: Any) -> None:
    pass


def sealed(change: Callable[[Any], None] = nothing, password: str = PASSWORD, label: str = LABEL) -> bytes:
    """Returns a key file as cosign writes it."""
    secret = pytest.importorskip("nacl.secret")
    der = private_key("p256").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, nonce, n = bytes(range(32)), bytes(range(24)), 1 << 12
    box = secret.SecretBox(Scrypt(salt, 32, n, 8, 1).derive(password.encode()))
    node = {
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": b64encode(nonce).decode()},
        "ciphertext": b64encode(box.encrypt(der, nonce).ciphertext).decode(),
    }
    change(node)
    text = b64encode(json.dumps(node).encode()).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()


@pytest.mark.parametrize("label", [LABEL, "ENCRYPTED COSIGN PRIVATE KEY"])
def test_a_sealed_key(label: str, tmp_path: Path) -> None:
    path = tmp_path / "cosign.key"
    path.write_bytes(sealed(label=label))
    entry = SigningKey(key_id="a", key_path=str(path), password=Secret(PASSWORD))
    assert pem(load_signing_key(entry).private) == pem(private_key("p256"))


def test_without_a_password() -> None:
    """Cosign takes an empty one."""
    assert pem(read_private_key(sealed(password=""), None)) == pem(private_key("p256"))


def test_a_wrong_password() -> None:
    for password in ("wrong", "", None):
        with pytest.raises(Refused, match="the password is wrong, or the file damaged"):
            read_private_key(sealed(), password)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda node: node["kdf"].update(name="pbkdf2"), "sealed in an unknown way"),
        (lambda node: node["cipher"].update(name="aes"), "sealed in an unknown way"),
        (lambda node: node["kdf"]["params"].update(N=1 << 30), "asks for too much"),
        (lambda node: node["kdf"]["params"].update(p=1 << 30), "asks for too much"),
        (lambda node: node["kdf"]["params"].update(N=-1), "asks for too much"),
        (lambda node: node["kdf"]["params"].update(N=1000), "impossible parameters"),
        (lambda node: node["kdf"]["params"].update(N="many"), "N is missing or of another type"),
        (lambda node: node["cipher"].update(nonce="AAAA"), "the nonce has 3 bytes, not 24"),
        (lambda node: node["kdf"].update(salt="AAAA"), "the password is wrong, or the file damaged"),
        (lambda node: node.update(ciphertext="AAAA"), "the password is wrong, or the file damaged"),
        (lambda node: node.pop("kdf"), "kdf is missing or of another type"),
    ],
)
def test_a_damaged_file(change: Callable[[Any], None], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read_private_key(sealed(change), PASSWORD)


def test_two_keys_in_a_file() -> None:
    with pytest.raises(Refused):
        read_private_key(sealed() * 2, PASSWORD)
    with pytest.raises(Refused, match="more than one key, or is damaged"):
        read_private_key(sealed() + b"more\n", PASSWORD)


def test_without_pynacl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_sign_cosign.sealed.optional", lambda _: None)
    with pytest.raises(Refused, match=r"pip install 'drift-sign-cosign\[nacl\]'"):
        read_private_key(f"-----BEGIN {LABEL}-----\nAAAA\n-----END {LABEL}-----\n".encode(), None)
