"""Judges a certificate by the authorities of a trust store, and reads whose it is."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, VerificationError
from cryptography.x509.verification import Store as Anchors
from msgspec import Struct

from drift_sign_cosign.algorithms import algorithm_of
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.revocation import MALFORMED, RevocationList, check_revocation

E = TypeVar("E", bound=x509.ExtensionType)

MOST_CERTIFICATES = 8
"""How many certificates a signature may bring: real chains have at most three."""

ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
"""Fulcio's extensions for the OIDC issuer, as bare text and as a DER UTF8String (fulcio, ``docs/oid-info.md``)."""

UTF8_STRING = 0x0C
LONG_FORM = 0x80

KNOWN = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
"""What may be critical in a leaf: the extensions that are looked at here."""


class Store(Struct, frozen=True):
    """The authorities of ``[[signing.trust_stores]]``, and what they revoked."""

    name: str
    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    revocations: tuple[RevocationList, ...] = ()


def read_pem(content: bytes) -> list[x509.Certificate]:
    """Returns the certificates of a PEM file, at least one. Raises `Refused`."""
    try:
        return [_whole(certificate) for certificate in x509.load_pem_x509_certificates(content)]
    except MALFORMED:
        raise Refused("it is no PEM file with certificates") from None


def read_der(content: bytes) -> x509.Certificate:
    """Returns a certificate in DER. Raises `Refused`."""
    try:
        return _whole(x509.load_der_x509_certificate(content))
    except MALFORMED:
        raise Refused("a certificate is malformed") from None


def check_chain(store: Store, leaf: x509.Certificate, presented: Sequence[x509.Certificate], now: datetime) -> datetime:
    """Returns until when a chain from ``leaf`` to a root of the store is good, as it is at ``now``.

    The chain is that of RFC 5280 section 6, and what `cryptography` does not look at is looked at here.

    Raises:
        Refused: there is no such chain at ``now``, the leaf may not sign code, or one of the certificates is revoked.
    """
    if len(presented) > MOST_CERTIFICATES:
        raise Refused(f"there are more than {MOST_CERTIFICATES} certificates")
    check_leaf(leaf)
    if leaf in store.roots:
        raise Refused("the certificate is its own authority")
    chain = _chain(store, leaf, presented, now)
    next_update = check_revocation(store.revocations, chain, now)
    ends = [certificate.not_valid_after_utc for certificate in chain]
    return min(ends if next_update is None else [*ends, next_update])


def check_leaf(leaf: x509.Certificate) -> None:
    """Raises `Refused` where a certificate is not one for signing code alone, or has a weak key."""
    algorithm_of(leaf.public_key())
    if {extension.oid for extension in leaf.extensions if extension.critical} - KNOWN:
        raise Refused("the certificate has an unknown critical extension")
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Refused("the certificate is that of an authority")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise Refused("the key usage of the certificate is not digitalSignature")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is None or list(extended) != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise Refused("the extended key usage of the certificate is not codeSigning alone")


def subjects(leaf: x509.Certificate) -> list[str]:
    """Returns the e-mail addresses, URIs and host names of a certificate's subject alternative names."""
    names = _extension(leaf, x509.SubjectAlternativeName)
    if names is None:
        return []
    kinds = (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName)
    # None of them has a space, behind which the text for a signer has the issuer.
    return [name.value for name in names if isinstance(name, kinds) and " " not in name.value]


def oidc_issuer(leaf: x509.Certificate) -> str | None:
    """Returns the OIDC issuer that Fulcio wrote into a certificate, or None.

    Raises:
        Refused: the extension is malformed.
    """
    for oid in (ISSUER_V2, ISSUER_V1):
        for extension in leaf.extensions:
            if extension.oid == oid and isinstance(extension.value, x509.UnrecognizedExtension):
                try:
                    return (_utf8_string(extension.value.value) if oid == ISSUER_V2 else extension.value.value).decode()
                except UnicodeDecodeError:
                    raise Refused("the issuer in the certificate is malformed") from None
    return None


def validity(certificate: x509.Certificate, now: datetime) -> datetime:
    """Returns the end of a certificate that is valid at ``now``. Raises `Refused`."""
    if now < certificate.not_valid_before_utc:
        raise Refused("the certificate is not yet valid")
    if now > certificate.not_valid_after_utc:
        raise Refused("the certificate has expired")
    return certificate.not_valid_after_utc


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Says whether nobody but its own key vouches for a certificate."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def at(seconds: float) -> datetime:
    """Returns a time that is given in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def _chain(
    store: Store, leaf: x509.Certificate, presented: Iterable[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Returns the chain from the leaf to a root, both included."""
    # The defaults for a leaf are those of a TLS client, which a certificate for signing is not.
    policy = (
        PolicyBuilder()
        .store(Anchors(list(store.roots)))
        .time(now)
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=ExtensionPolicy.permit_all(),
        )
    )
    # For the reason alone: the verifier refuses it, too, but says less.
    validity(leaf, now)
    try:
        return policy.build_client_verifier().verify(leaf, [*presented, *store.intermediates]).chain
    except VerificationError:
        raise Refused(f"the certificate does not lead to an authority of the trust store {store.name}") from None


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """Returns the certificate once everything in it is parsed, which else is done where it is first asked for."""
    certificate.public_key()
    _ = (certificate.subject, certificate.issuer, certificate.extensions)
    return certificate


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _utf8_string(der: bytes) -> bytes:
    """Returns the bytes of a DER UTF8String of at most 127 bytes, or of a longer one in the long form."""
    if len(der) > 1 and der[0] == UTF8_STRING:
        octets = der[1] - LONG_FORM if der[1] > LONG_FORM else 0
        start = 2 + octets
        length = int.from_bytes(der[2:start], "big") if octets else der[1]
        if length == len(der) - start:
            return der[start:]
    raise Refused("the issuer in the certificate is malformed")
