"""What the format demands of certificates and of their order: specification, "Certificate Requirements"."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DuplicateExtension,
    ExtendedKeyUsage,
    Extension,
    ExtensionNotFound,
    ExtensionType,
    InvalidVersion,
    KeyUsage,
    Name,
    UnsupportedGeneralNameType,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from drift_sign_notation.algorithms import PublicKey, algorithm_of
from drift_sign_notation.refusal import Refused

LONGEST: Final = 10
"""Most certificates of a chain that are looked at."""

FEWEST_BITS: Final = 2048
"""Of an RSA key of an authority; that of a signer has to have an algorithm."""

OTHER_PURPOSES: Final = frozenset(
    {
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        ExtendedKeyUsageOID.TIME_STAMPING,
        ExtendedKeyUsageOID.OCSP_SIGNING,
    }
)
"""Purposes that a signer's certificate must not have."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate or a list that is malformed, when it is loaded or when it is asked."""

ExtensionT = TypeVar("ExtensionT", bound=ExtensionType)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raises `Refused` where the block cannot parse ``what``."""
    try:
        yield
    except UNREADABLE:
        raise Refused(f"{what} is malformed") from None


def read_pem(content: bytes) -> tuple[Certificate, ...]:
    """Returns the certificates of a PEM file, at least one. Raises `Refused`."""
    with readable("a certificate"):
        return tuple(load_pem_x509_certificates(content))


def read_der(content: bytes) -> Certificate:
    """Returns the certificate of an envelope. Raises `Refused`."""
    with readable("a certificate"):
        return load_der_x509_certificate(content)


def thumbprint(certificate: Certificate) -> str:
    """Returns the SHA-256 of the certificate in lower-case hex."""
    return certificate.fingerprint(SHA256()).hex()


def public_key(leaf: Certificate) -> PublicKey:
    """Returns the key of a signer. Raises `Refused` for a key that the format does not have."""
    with readable("the key of a certificate"):
        key = leaf.public_key()
    algorithm_of(key)
    # `algorithm_of` knows keys of these two kinds alone.
    assert isinstance(key, PublicKey)  # noqa: S101
    return key


def validity(chain: Sequence[Certificate]) -> tuple[datetime, datetime]:
    """Returns from when until when every certificate is valid, both inclusive; the end may come first."""
    begins = max(certificate.not_valid_before_utc for certificate in chain)
    return begins, min(certificate.not_valid_after_utc for certificate in chain)


def subject_of(certificate: Certificate) -> Name:
    """Returns whose a certificate is. Raises `Refused` where that cannot be read."""
    with readable("the subject of a certificate"):
        return certificate.subject


def is_self_signed(certificate: Certificate) -> bool:
    """Returns whether a certificate is issued by itself. Raises `Refused` where it cannot be read."""
    return _is_issued_by(certificate, certificate)


def is_authority(certificate: Certificate) -> bool:
    """Returns whether a certificate says that it is an authority's. Raises `Refused` where it cannot be read."""
    constraints = _extension(certificate, BasicConstraints)
    return constraints is not None and constraints.value.ca


def check_chain(chain: Sequence[Certificate]) -> None:
    """Raises `Refused` unless this is a whole chain, in order, from a signer to a root, each fit for what it does.

    Says nothing of whether it is trusted or valid at some time.
    """
    if not 1 <= len(chain) <= LONGEST:
        raise Refused(f"a chain has 1 to {LONGEST} certificates")
    _check_signer(chain[0])
    for authority in chain[1:]:
        _check_authority(authority)
    for certificate, issuer in pairwise(chain):
        if not _is_issued_by(certificate, issuer):
            raise Refused("a certificate of the chain is not issued by the next one")
    if not is_self_signed(chain[-1]):
        raise Refused("the chain does not end with a self-signed root")


def check_path(chain: Sequence[Certificate], at: datetime) -> None:
    """Raises `Refused` where RFC 5280 section 6 does not allow the chain at a time, such as by a path length.

    `check_chain` has to be asked, too: this takes other orders, and certificates that are in excess.
    """
    if len(chain) == 1:
        return
    # The defaults for a leaf are those of web servers, which no certificate of a signer meets.
    policies = {"ca_policy": ExtensionPolicy.webpki_defaults_ca(), "ee_policy": ExtensionPolicy.permit_all()}
    try:
        builder = PolicyBuilder().store(Store([chain[-1]])).time(at).extension_policies(**policies)
        found = builder.build_client_verifier().verify(chain[0], list(chain[1:-1]))
    except (VerificationError, *UNREADABLE):
        raise Refused("the chain is not a valid path to its root") from None
    if list(found.chain) != list(chain):
        raise Refused("the chain is not the path to its root")


def _check_signer(leaf: Certificate) -> None:
    public_key(leaf)
    _check_signature_hash(leaf)
    if is_authority(leaf):
        raise Refused("the certificate of the signer is one of an authority")
    usage = _key_usage(leaf)
    # The bits of decipher_only and encipher_only mean nothing, and cannot be read, without key_agreement.
    others = (
        usage.key_encipherment,
        usage.data_encipherment,
        usage.key_agreement,
        usage.key_cert_sign,
        usage.crl_sign,
    )
    if not usage.digital_signature or any(others):
        raise Refused("the key usage of the signer is not digitalSignature alone")
    purposes = _extension(leaf, ExtendedKeyUsage)
    if purposes is not None:
        stated = set(purposes.value)
        if ExtendedKeyUsageOID.CODE_SIGNING not in stated or stated & OTHER_PURPOSES:
            raise Refused("the extended key usage of the signer is not codeSigning alone")


def _check_authority(authority: Certificate) -> None:
    _check_signature_hash(authority)
    with readable("the key of a certificate"):
        key = authority.public_key()
    if isinstance(key, RSAPublicKey):
        if key.key_size < FEWEST_BITS:
            raise Refused(f"an RSA key of an authority has fewer than {FEWEST_BITS} bits")
    else:
        algorithm_of(key)
    constraints = _extension(authority, BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise Refused("an issuer in the chain is no authority")
    if not _key_usage(authority).key_cert_sign:
        raise Refused("the key usage of an authority lacks keyCertSign")


def _key_usage(certificate: Certificate) -> KeyUsage:
    usage = _extension(certificate, KeyUsage)
    if usage is None or not usage.critical:
        raise Refused("the key usage of a certificate is missing or not critical")
    return usage.value


def _check_signature_hash(certificate: Certificate) -> None:
    with readable("the algorithm of a certificate"):
        hashed = certificate.signature_hash_algorithm
    if not isinstance(hashed, SHA256 | SHA384 | SHA512):
        raise Refused("a certificate is signed by an algorithm that is not allowed")


def _extension(certificate: Certificate, kind: type[ExtensionT]) -> Extension[ExtensionT] | None:
    with readable("an extension of a certificate"):
        try:
            return certificate.extensions.get_extension_for_class(kind)
        except ExtensionNotFound:
            return None


def _is_issued_by(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
