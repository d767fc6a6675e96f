"""Reads the key files of an operator, and refuses those by which nobody could sign or trust."""

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from pysequoia import Cert, PySigner, Tsk, sign

from drift_core.api import Judgement, KeyInfo, StartError
from drift_sign_simple.config import SimpleConfig, SimpleSigningKey, SimpleVerificationKey
from drift_sign_simple.message import read_message
from drift_sign_simple.openpgp import Certificate, guarded, read_certificate
from drift_sign_simple.refusal import Refused
from drift_sign_simple.trust import Trust

LARGEST = 1 << 20
"""Most bytes of a key file."""


class SigningKey(Struct, frozen=True):
    """A secret key that signs, and what is proven by its signatures."""

    key_id: str
    signer: PySigner
    proven: Judgement

    @property
    def expires_at(self) -> float | None:
        """When it ends, in seconds since the epoch, or None."""
        return self.proven.valid_until

    @property
    def info(self) -> KeyInfo:
        """What the core says of the key."""
        return KeyInfo(
            name=self.key_id,
            kind="signing key",
            algorithm=self.proven.algorithm,
            fingerprint=self.proven.fingerprint,
            expires_at=self.expires_at,
        )


def load_signing_keys(config: SimpleConfig) -> Sequence[SigningKey]:
    """Returns the keys of ``[[signing.simple.signing_keys]]``; takes about 0.1 s for each that is encrypted.

    Raises:
        StartError: two are called the same, or a file cannot be read, holds no secret key or several, needs another
            password, or a key that is expired, revoked, or signs by an algorithm that no policy has a name for.
    """
    _unique([entry.key_id for entry in config.signing_keys], "signing keys are called")
    return [_load_signing_key(entry) for entry in config.signing_keys]


def load_trust(config: SimpleConfig) -> Trust:
    """Returns what ``[[signing.simple.verification_keys]]`` trusts.

    Raises:
        StartError: two are called the same or have the same certificate, or a file cannot be read, holds no
            certificate, or one that is malformed or weak.
    """
    _unique([entry.key_id for entry in config.verification_keys], "verification keys are called")
    certificates = [one for entry in config.verification_keys for one in _load_certificates(entry)]
    _unique([one.fingerprint for one in certificates], "certificates have the fingerprint")
    return Trust(tuple(certificates))


def _load_signing_key(entry: SimpleSigningKey) -> SigningKey:
    try:
        content = _content(entry.key_path)
        secret = guarded(lambda: Tsk.from_bytes(content), "it does not hold exactly one OpenPGP key")
        certificate = read_certificate(guarded(secret.extract_certificate, "it is no key"), entry.key_id)
        signer = guarded(
            lambda: secret.signer(entry.password),
            "it holds no secret key that may sign now, or the password is wrong or missing",
        )
        # Only a signature shows by which of its keys it signs, by which hash, and whether others would take that.
        trial = read_message(guarded(lambda: sign(signer, b"{}", armor=False), "its key does not sign"))
        proven = Trust((certificate,)).prove(trial, time.time())
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.key_path, refusal) from None
    return SigningKey(entry.key_id, signer, proven)


def _load_certificates(entry: SimpleVerificationKey) -> list[Certificate]:
    try:
        found = _split(_content(entry.key_path))
        return [read_certificate(cert, entry.key_id, trusted=entry.trusted) for cert in found]
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.key_path, refusal) from None


def _split(content: bytes) -> list[Cert]:
    """Returns the certificates in a file. Raises `Refused` where there is none."""
    if not content:
        raise Refused("it is empty")
    return guarded(lambda: Cert.split_bytes(content), "it holds no OpenPGP certificates")


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    # A path with a null byte is a ValueError.
    except (OSError, ValueError) as error:
        raise Refused(f"it cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > LARGEST:
        raise Refused("it is too large for a key")
    return content


def _unique(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            message = f"signing.simple: two {what} {name!r}"
            raise StartError(message)


def _unusable(key_id: str, path: str, refusal: Refused) -> StartError:
    return StartError(f"the key {key_id!r} cannot be used; {path}: {refusal}")
