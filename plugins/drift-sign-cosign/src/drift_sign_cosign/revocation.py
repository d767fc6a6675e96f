"""Revocation lists of authorities, from files alone: a URL in a certificate is never asked."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from msgspec import Struct

from drift_core.api import StartError
from drift_sign_cosign.refusal import Refused

LARGEST = 64 << 20
"""Most bytes of a list: that of a large public authority has some tens of MiB."""


MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises about a certificate or a list, of which only the first is what its documentation says."""


class RevocationList(Struct, frozen=True):
    """A list, and the file that it is from."""

    path: str
    revoked: x509.CertificateRevocationList


def load_revocation_list(url: str) -> RevocationList:
    """Returns the list at a ``file://`` URL, in PEM or DER; an expired one is refused where it is asked.

    Raises:
        StartError: the file cannot be read, or it is no list of everything that its issuer revoked.
    """
    # As the core takes it, which looks whether the file has changed.
    path = url.removeprefix("file://")
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
        load = x509.load_pem_x509_crl if content.startswith(b"-----BEGIN") else x509.load_der_x509_crl
        revoked = load(content)
        # A critical extension says that this is a part, a difference, or the list of others (RFC 5280 section 5.2).
        whole = len(content) <= LARGEST and not any(extension.critical for extension in revoked.extensions)
    except (OSError, *MALFORMED) as error:
        message = f"{path}: the revocation list cannot be read: {getattr(error, 'strerror', None) or 'malformed'}"
        raise StartError(message) from None
    if not whole:
        message = f"{path}: the revocation list is too large, or not the whole list of one authority"
        raise StartError(message)
    return RevocationList(path, revoked)


def check_revocation(
    lists: Sequence[RevocationList], chain: Sequence[x509.Certificate], now: datetime
) -> datetime | None:
    """Returns until when the lists say something of a chain, from leaf to root; None where none is of its authorities.

    Raises:
        Refused: a certificate below the root is revoked, or a list of its issuer is expired, not yet valid or forged.
    """
    until: list[datetime] = []
    for certificate, issuer in pairwise(chain):
        for one in lists:
            # A serial number is one of its issuer: others may have given it to something else.
            if one.revoked.issuer == certificate.issuer:
                until.append(_next_update(one.revoked, issuer, now))
                if one.revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                    raise Refused("a certificate is revoked")
    return min(until, default=None)


def _next_update(revoked: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime) -> datetime:
    """Returns until when a list is good that ``issuer`` has signed."""
    key = issuer.public_key()
    try:
        # Keys that sign no lists, such as those for key agreement, are a TypeError.
        forged = not revoked.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, *MALFORMED):
        forged = True
    if forged:
        raise Refused("a revocation list is not by its issuer")
    if revoked.next_update_utc is None or not revoked.last_update_utc <= now <= revoked.next_update_utc:
        raise Refused("a revocation list has expired or is not yet valid")
    return revoked.next_update_utc
