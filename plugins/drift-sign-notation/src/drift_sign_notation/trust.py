"""Loads the trust stores, of whose certificates a chain has to have one to be trusted, and the keys that are not."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import Certificate, CertificateRevocationList

from drift_core.api import KeyInfo, SigningKeys, StartError, Struct, VerificationKey
from drift_core.api import TrustStore as TrustStoreConfig
from drift_sign_notation.algorithms import NAMES, PublicKey, algorithm_of, fingerprint
from drift_sign_notation.certificates import is_authority, is_self_signed, read_pem, readable, subject_of
from drift_sign_notation.files import reading
from drift_sign_notation.refusal import Refused
from drift_sign_notation.revocation import read_list

NOBODY: Final = ("",)
"""The trust stores of a chain that none vouches for: no store can be called so, and a bare key has none at all."""


class TrustStore(Struct, frozen=True):
    """A trust store: its certificates, what to tell operators of each, and its lists of revoked certificates."""

    name: str
    certificates: tuple[Certificate, ...]
    keys: tuple[KeyInfo, ...]
    lists: tuple[CertificateRevocationList, ...] = ()


def load_trust_stores(config: SigningKeys) -> dict[str, TrustStore]:
    """Returns the trust stores by name, a verification key being one of its own; blocks while files are read.

    Raises `StartError` where a file cannot be read, or a certificate is trusted and cannot be: that of a signer who is
    not its own issuer is in a trust store by mistake. As a verification key it is one on purpose.
    """
    pinned = (_pinned(key) for key in config.verification_keys)
    loaded: dict[str, TrustStore] = {}
    for store in (*map(_store, config.trust_stores), *(store for store in pinned if store is not None)):
        if store.name in loaded:
            raise StartError(f"signing: there are two trust stores {store.name!r}")
        loaded[store.name] = store
    return loaded


def load_distrusted(config: SigningKeys) -> dict[str, str]:
    """Returns the names of the keys that are not trusted by their fingerprints; blocks while files are read.

    They are of any algorithm, since who distrusts a key does so in every one. Raises `StartError`.
    """
    found: dict[str, str] = {}
    for entry in config.verification_keys:
        if not entry.trusted:
            with reading(entry.public_key_path) as content:
                found[fingerprint(_public(content))] = entry.key_id
    return found


def vouching(chain: Sequence[Certificate], stores: Iterable[TrustStore]) -> tuple[tuple[str, ...], Certificate | None]:
    """Returns the names of all stores with a certificate of the chain, and the trusted one next to the signer."""
    holders = [store for store in stores if not set(chain).isdisjoint(store.certificates)]
    trusted = {certificate for store in holders for certificate in store.certificates}
    names = tuple(store.name for store in holders)
    return names, next((certificate for certificate in chain if certificate in trusted), None)


def _store(config: TrustStoreConfig) -> TrustStore:
    trusted: list[Certificate] = []
    keys: list[KeyInfo] = []
    for path in config.root_certificate_paths:
        with reading(path) as content:
            for certificate in read_pem(content):
                if not is_authority(certificate) and not is_self_signed(certificate):
                    raise Refused("a certificate is neither an authority's nor self-signed")
                trusted.append(certificate)
                keys.append(_described(config.name, "authority", certificate))
    lists: list[CertificateRevocationList] = []
    for url in config.crl_urls:
        with reading(url.removeprefix("file://")) as content:
            lists.append(read_list(content))
    return TrustStore(config.name, tuple(trusted), tuple(keys), tuple(lists))


def _pinned(config: VerificationKey) -> TrustStore | None:
    if config.certificate_path is None or not config.trusted or config.algorithm not in {None, *NAMES}:
        return None
    with reading(config.certificate_path) as content:
        certificate = read_pem(content)[0]
        with readable("the key of a certificate"):
            key = certificate.public_key()
        if config.algorithm is None and not isinstance(key, PublicKey):
            return None
        if config.algorithm is not None and algorithm_of(key).name != config.algorithm:
            raise Refused(f"the key of the certificate is not for {config.algorithm}")
        described = _described(config.key_id, "verification key", certificate, fingerprint(key))
        return TrustStore(config.key_id, (certificate,), (described,))


def _public(content: bytes) -> PublicKeyTypes:
    with readable("the public key"):
        if b"-----BEGIN CERTIFICATE-----" in content:
            return read_pem(content)[0].public_key()
        return load_pem_public_key(content)


def _described(
    store: str, kind: Literal["authority", "verification key"], certificate: Certificate, key: str | None = None
) -> KeyInfo:
    subject = subject_of(certificate).rfc4514_string()
    ends = certificate.not_valid_after_utc.timestamp()
    return KeyInfo(name=f"{store}: {subject}", kind=kind, fingerprint=key, expires_at=ends)
