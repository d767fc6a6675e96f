"""Finds the certificate that QUIC serves with, and notices when somebody has renewed it."""

import hashlib
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from drift_core.api import ServerSettings, StartError, Struct, file_states
from drift_quic_aioquic.config import Settings

PURPOSE: Final = b"drift stateless reset"


class Identity(Struct, frozen=True):
    """A certificate with those of its issuers, and its key, as objects of cryptography.

    ``secret`` is the same for all that have the same key, also after a restart.
    """

    chain: tuple[Any, ...]
    key: Any
    secret: bytes


class Certificates:
    """The files of a configuration. Not for several threads at once."""

    def __init__(self, config: Settings, server: ServerSettings) -> None:
        self._config = config
        self._files = _files(config, server)
        self._seen = file_states(self._files)

    def load(self) -> Identity:
        """Reads the certificate and its key; takes milliseconds.

        Raises:
            StartError: they are missing, unreadable, encrypted, of no kind that TLS 1.3 has, or do not match.
        """
        config = self._config
        if config.cert_chain:
            return _identity(
                "quic.cert_chain",
                lambda: [x509.load_der_x509_certificate(bytes(one)) for one in config.cert_chain],
                lambda: serialization.load_der_private_key(bytes(config.private_key), password=None),
            )
        certificate, key = self._files
        chain, secret = _read("quic.cert_path", certificate), _read("quic.key_path", key)
        return _identity(
            f"quic.cert_path {certificate} and quic.key_path {key}",
            lambda: x509.load_pem_x509_certificates(chain),
            lambda: serialization.load_pem_private_key(secret, password=None),
        )

    def changed(self) -> bool:
        """Says whether the files are others than when this was last asked; a file in the middle of a change is one."""
        if self._config.cert_chain:
            return False
        before, self._seen = self._seen, file_states(self._files)
        return before != self._seen


def configured(config: Settings, server: ServerSettings) -> tuple[bool, bool]:
    """Says whether there is a certificate, and whether there is a key."""
    if config.cert_chain:
        return True, True
    certificate, key = _files(config, server)
    return certificate.is_file(), key.is_file()


def _files(config: Settings, server: ServerSettings) -> tuple[Path, Path]:
    own = Path(config.cert_path), Path(config.key_path)
    if server.cert_file and server.key_file and not any(path.exists() for path in own):
        return Path(server.cert_file), Path(server.key_file)
    return own


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{name}: cannot read {path}: {error.strerror}"
        raise StartError(message) from error


def _identity(name: str, load_chain: Any, load_key: Any) -> Identity:
    try:
        chain, key = tuple(load_chain()), load_key()
        plain = serialization.PublicFormat.SubjectPublicKeyInfo
        ours = key.public_key().public_bytes(serialization.Encoding.DER, plain)
        theirs = chain[0].public_key().public_bytes(serialization.Encoding.DER, plain)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        message = f"{name} cannot be used: {error or type(error).__name__}"
        raise StartError(message) from error
    if ours != theirs:
        message = f"{name} cannot be used: the key is not that of the certificate"
        raise StartError(message)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(chain, key, hashlib.sha256(PURPOSE + der).digest())
