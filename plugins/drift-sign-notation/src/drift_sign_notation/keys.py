"""Loads the keys that sign, each with its chain, and finds out at once whether signatures by it can be good."""

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate

from drift_core.api import KeyInfo, StartError, Struct
from drift_core.api import SigningKey as SigningKeyConfig
from drift_sign_notation.algorithms import NAMES, Algorithm, PrivateKey, algorithm_of, fingerprint
from drift_sign_notation.certificates import check_chain, check_path, public_key, read_pem, validity
from drift_sign_notation.files import reading
from drift_sign_notation.refusal import Refused


class SigningKey(Struct, frozen=True):
    """A private key and its chain, from its certificate to the root. Its text never shows the key."""

    key_id: str
    private: PrivateKey
    chain: tuple[Certificate, ...]
    algorithm: Algorithm

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r}, {self.algorithm.name})"

    def is_valid(self, at: float) -> bool:
        """Returns whether every certificate of the chain is valid; ``at`` is in seconds since the epoch."""
        begins, ends = validity(self.chain)
        return begins <= datetime.fromtimestamp(at, UTC) <= ends

    def described(self) -> KeyInfo:
        """Returns what operators may know of it."""
        _, ends = validity(self.chain)
        return KeyInfo(
            name=self.key_id,
            kind="signing key",
            algorithm=self.algorithm.name,
            fingerprint=fingerprint(self.private.public_key()),
            expires_at=ends.timestamp(),
        )


def load_signing_keys(configs: Iterable[SigningKeyConfig]) -> dict[str, SigningKey]:
    """Returns the keys that are for this format, by their names; blocks while files are read.

    Raises `StartError`, which names the file and says what is wrong, but shows nothing of its content.
    """
    keys: dict[str, SigningKey] = {}
    for config in configs:
        key = _load(config)
        if key is None:
            continue
        if key.key_id in keys:
            raise StartError(f"signing.signing_keys: there are two keys {key.key_id!r}")
        keys[key.key_id] = key
    return keys


def _load(config: SigningKeyConfig) -> SigningKey | None:
    if config.certificate_path is None or config.algorithm not in {None, *NAMES}:
        return None
    with reading(config.key_path) as content:
        private = _private(content, config.password)
        if config.algorithm is None and not isinstance(private, PrivateKey):
            return None
        algorithm = algorithm_of(private)
        if config.algorithm not in {None, algorithm.name}:
            raise Refused(f"the algorithm of the key is {algorithm.name}, not {config.algorithm}")
    # `algorithm_of` knows keys of these two kinds alone.
    assert isinstance(private, PrivateKey)  # noqa: S101
    with reading(config.certificate_path) as content:
        chain = read_pem(content)
        check_chain(chain)
        begins, ends = validity(chain)
        check_path(chain, min(begins, ends))
        if public_key(chain[0]) != private.public_key():
            raise Refused("the first certificate is not that of the key")
    return SigningKey(config.key_id, private, chain, algorithm)


def _private(content: bytes, password: str | None) -> object:
    try:
        return load_pem_private_key(content, None if password is None else password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says of the file or the password stays out of the log.
        raise Refused("the private key cannot be read, or its password is wrong") from None
