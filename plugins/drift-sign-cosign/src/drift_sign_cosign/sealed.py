"""Opens the private keys that ``cosign generate-key-pair`` writes, which are sealed by a password."""

from typing import Any

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from drift_sign_cosign.encoding import member, read_base64, read_json
from drift_sign_cosign.optional import optional
from drift_sign_cosign.refusal import Refused

LABELS = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
"""What stands between the dashes of the file; the second is that of older versions."""

MOST_MEMORY = 1 << 28
"""Bytes that the key derivation may use: 128 N r (RFC 7914 section 2); cosign's own take a quarter of it."""

MOST_LANES = 16
"""How often the derivation may use that memory, one after the other; cosign's own does once."""

NONCE_BYTES = 24
KEY_BYTES = 32


def is_sealed(pem: bytes) -> bool:
    """Says whether a file is such a key."""
    return any(b"-----BEGIN " + label + b"-----" in pem for label in LABELS)


def unseal(pem: bytes, password: str) -> bytes:
    """Returns the key as PKCS#8 in DER; takes about 0.2 s.

    Source: secure-systems-lab/go-securesystemslib, ``encrypted/encrypted.go``.

    Raises:
        Refused: the password is wrong, the file is damaged, or PyNaCl is missing.
    """
    secret, exceptions = optional("nacl.secret"), optional("nacl.exceptions")
    if secret is None or exceptions is None:
        raise Refused("a key of cosign's own form needs PyNaCl: pip install 'drift-sign-cosign[nacl]'")
    box = read_json(_body(pem), "sealed key")
    kdf, cipher = member(box, "kdf", dict), member(box, "cipher", dict)
    if (kdf.get("name"), cipher.get("name")) != ("scrypt", "nacl/secretbox"):
        raise Refused("the key is sealed in an unknown way")
    nonce = read_base64(member(cipher, "nonce", str), "nonce")
    if len(nonce) != NONCE_BYTES:
        raise Refused(f"the nonce has {len(nonce)} bytes, not {NONCE_BYTES}")
    ciphertext = read_base64(member(box, "ciphertext", str), "ciphertext")
    try:
        return bytes(secret.SecretBox(_derived(kdf, password)).decrypt(ciphertext, nonce))
    except exceptions.CryptoError:
        raise Refused("the password is wrong, or the file damaged") from None


def _derived(kdf: dict[str, Any], password: str) -> bytes:
    """Returns the key that the password stands for."""
    params = member(kdf, "params", dict)
    n, r, p = (member(params, name, int) for name in ("N", "r", "p"))
    if min(n, r, p) < 1 or 128 * n * r > MOST_MEMORY or p > MOST_LANES:
        raise Refused("the key derivation asks for too much")
    salt = read_base64(member(kdf, "salt", str), "salt")
    try:
        return Scrypt(salt, KEY_BYTES, n, r, p).derive(password.encode())
    except ValueError:
        raise Refused("the key derivation has impossible parameters") from None


def _body(pem: bytes) -> bytes:
    """Returns what the lines between the dashes say in base64."""
    lines = [line.strip() for line in pem.strip().splitlines()]
    for label in LABELS:
        if (lines[0], lines[-1]) == (b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"):
            return read_base64(b"".join(lines[1:-1]).decode(errors="replace"), "sealed key")
    raise Refused("the file has more than one key, or is damaged")
