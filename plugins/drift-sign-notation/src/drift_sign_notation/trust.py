"""Loads the trust stores: the certificates of which a chain has to have one to be trusted."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from cryptography.x509 import Certificate, CertificateRevocationList

from drift_core.api import KeyInfo, SigningKeys, StartError, Struct, VerificationKey
from drift_core.api import TrustStore as TrustStoreConfig
from drift_sign_notation.algorithms import NAMES, PublicKey, algorithm_of
from drift_sign_notation.certificates import is_authority, is_self_signed, read_pem, readable, subject_of
from drift_sign_notation.files import reading
from drift_sign_notation.refusal import Refused
from drift_sign_notation.revocation import read_list

NOBODY: Final = ""
"""The name of the trust store of a chain that none vouches for: no store can have it."""


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


def vouching(chain: Sequence[Certificate], stores: Iterable[TrustStore]) -> tuple[str, Certificate]:
    """Returns the name of the first store with a certificate of the chain, and the trusted one next to the signer.

    They are `NOBODY` and the root where the chain is not trusted.
    """
    holders = [store for store in stores if not set(chain).isdisjoint(store.certificates)]
    trusted = {certificate for store in holders for certificate in store.certificates}
    name = holders[0].name if holders else NOBODY
    return name, next((certificate for certificate in chain if certificate in trusted), chain[-1])


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
        return TrustStore(config.key_id, (certificate,), (_described(config.key_id, "verification key", certificate),))


def _described(store: str, kind: Literal["authority", "verification key"], certificate: Certificate) -> KeyInfo:
    subject = subject_of(certificate).rfc4514_string()
    return KeyInfo(name=f"{store}: {subject}", kind=kind, expires_at=certificate.not_valid_after_utc.timestamp())
