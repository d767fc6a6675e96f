"""Reads the key files of an operator, and refuses those by which nobody should sign or trust."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)
from msgspec import Struct

from drift_core.api import KeyInfo, SigningKey, StartError, VerificationKey
from drift_sign_cosign.algorithms import Algorithm, PrivateKey, PublicKey, Used, algorithm_of, fingerprint
from drift_sign_cosign.certificates import at, read_pem, validity
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.sealed import is_sealed, unseal

LARGEST = 1 << 20
"""Most bytes of a key file or of a file with certificates."""


class Key(Struct, frozen=True):
    """A private key that signs, and its certificates: the leaf first, then intermediates; none for a bare key."""

    key_id: str
    private: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def signs_as(self) -> PublicKey | Sequence[x509.Certificate]:
        """What says who has signed: the certificates, or else the key."""
        return self.chain or self.private.public_key()

    @property
    def info(self) -> KeyInfo:
        """What the core says of the key."""
        return KeyInfo(
            name=self.key_id,
            kind="signing key",
            algorithm=algorithm_of(self.private),
            fingerprint=fingerprint(self.private.public_key()).hex(),
            expires_at=self.chain[0].not_valid_after_utc.timestamp() if self.chain else None,
        )


class Trusted(Struct, frozen=True):
    """A public key of which the operator says whether what it signs counts.

    It counts only while ``certificate``, where there is one, is valid; nobody else has to have vouched for it.
    """

    key_id: str
    public: PublicKey
    trusted: bool = True
    certificate: x509.Certificate | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key's SubjectPublicKeyInfo, in lower-case hex."""
        return fingerprint(self.public).hex()

    @property
    def info(self) -> KeyInfo:
        """What the core says of the key."""
        return KeyInfo(
            name=self.key_id,
            kind="verification key",
            algorithm=algorithm_of(self.public),
            fingerprint=self.fingerprint,
            expires_at=None if self.certificate is None else self.certificate.not_valid_after_utc.timestamp(),
        )


def is_ours(entry: SigningKey | VerificationKey) -> bool:
    """Says whether a key may be one for cosign, which knows no RSA-PSS and no P-521; other formats share the list."""
    return entry.algorithm is None or entry.algorithm in get_args(Used)


def load_signing_keys(entries: Sequence[SigningKey]) -> Sequence[Key]:
    """Returns the keys of ``[[signing.signing_keys]]`` that are for cosign.

    Raises:
        StartError: two are called the same, or as `load_signing_key`.
    """
    keys = [load_signing_key(entry) for entry in entries if is_ours(entry)]
    unique([key.key_id for key in keys], "signing keys are called")
    return keys


def usable(keys: Sequence[Key], key_id: str, now: float) -> Key:
    """Returns the key of a name, with which may be signed at ``now``, in seconds since the epoch. Raises `Refused`."""
    for key in keys:
        if key.key_id == key_id:
            for certificate in key.chain:
                validity(certificate, at(now))
            return key
    raise Refused("there is no such key for the formats of cosign")


def load_signing_key(entry: SigningKey) -> Key:
    """Returns the key of an entry of ``[[signing.signing_keys]]``.

    Raises:
        StartError: the file cannot be read, is no key, needs another password, holds a weak key or one that the entry
            does not say, or the certificate is that of another key.
    """
    try:
        key = read_private_key(_content(entry.key_path), entry.password)
        _agree(algorithm_of(key), entry.algorithm)
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.key_path, refusal) from None
    if entry.certificate_path is None:
        return Key(entry.key_id, key)
    try:
        leaf, *others = _certificates_of(key.public_key(), entry.certificate_path)
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.certificate_path, refusal) from None
    # Who trusts a root has it already; a signature that brings its own proves nothing.
    return Key(entry.key_id, key, (leaf, *(one for one in others if one.issuer != one.subject)))


def load_verification_key(entry: VerificationKey) -> Trusted:
    """Returns the key of an entry of ``[[signing.verification_keys]]``.

    Raises:
        StartError: as `load_signing_key`.
    """
    try:
        key = read_public_key(_content(entry.public_key_path))
        _agree(algorithm_of(key), entry.algorithm)
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.public_key_path, refusal) from None
    if entry.certificate_path is None:
        return Trusted(entry.key_id, key, entry.trusted)
    try:
        certificate = _certificates_of(key, entry.certificate_path)[0]
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.certificate_path, refusal) from None
    return Trusted(entry.key_id, key, entry.trusted, certificate)


def load_distrusted(entry: VerificationKey) -> str:
    """Returns the fingerprint of an entry's key, whatever it is for: who distrusts a key does so in every algorithm.

    Raises:
        StartError: the file cannot be read, or holds no public key.
    """
    try:
        return fingerprint(_any_public_key(_content(entry.public_key_path))).hex()
    except Refused as refusal:
        raise _unusable(entry.key_id, entry.public_key_path, refusal) from None


def load_certificates(path: str) -> list[x509.Certificate]:
    """Returns the certificates of a PEM file, in their order. Raises `StartError`."""
    try:
        return read_pem(_content(path))
    except Refused as refusal:
        message = f"{path} holds no certificates: {refusal}"
        raise StartError(message) from None


def read_private_key(content: bytes, password: str | None) -> PrivateKey:
    """Returns the private key of a PEM file: PKCS#8, encrypted or not, or cosign's own form.

    ``password`` None is a key without one; for cosign's own form that is the empty password.

    Raises:
        Refused: it is no such key, the password is wrong, or a plain key is given one.
    """
    try:
        if is_sealed(content):
            key = load_der_private_key(unseal(content, password or ""), None)
        else:
            key = load_pem_private_key(content, None if password is None else password.encode())
    except TypeError:
        # cryptography raises this for both, and says no more about it.
        raise Refused("the key is encrypted and no password is given, or the other way round") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refused("it is no private key, or the password is wrong") from None
    algorithm_of(key)
    if not isinstance(key, PrivateKey):
        raise Refused("it is no private key")
    return key


def read_public_key(content: bytes) -> PublicKey:
    """Returns the public key of a PEM file: SubjectPublicKeyInfo, or the first certificate of the file.

    Raises:
        Refused: it is neither, or a key that `algorithm_of` refuses.
    """
    key = _any_public_key(content)
    algorithm_of(key)
    if not isinstance(key, PublicKey):
        raise Refused("it is no public key")
    return key


def _any_public_key(content: bytes) -> PublicKeyTypes:
    try:
        is_certificate = b"-----BEGIN CERTIFICATE-----" in content
        return read_pem(content)[0].public_key() if is_certificate else load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused("it is no public key") from None


def _certificates_of(key: PublicKey, path: str) -> list[x509.Certificate]:
    """Returns the certificates of a file, of which the first is that of a key."""
    certificates = read_pem(_content(path))
    if certificates[0].public_key() != key:
        raise Refused("the first certificate is that of another key")
    return certificates


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


def _agree(found: Algorithm, said: str | None) -> None:
    if said not in (None, found):
        raise Refused(f"it is a key for {found}, not for {said}")


def unique(names: Sequence[str], what: str) -> None:
    """Raises `StartError` where a name is there twice; ``what`` says of what."""
    for name in names:
        if names.count(name) > 1:
            message = f"signing: two {what} {name!r}"
            raise StartError(message)


def _unusable(key_id: str, path: str, refusal: Refused) -> StartError:
    return StartError(f"the key {key_id!r} cannot be used; {path}: {refusal}")
