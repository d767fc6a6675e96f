"""Says which certificates were revoked, by local files alone: RFC 5280 section 5."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography.x509 import (
    Certificate,
    CertificateRevocationList,
    KeyUsage,
    Name,
    load_der_x509_crl,
    load_pem_x509_crl,
)

from drift_core.api import StartError
from drift_sign_notation.algorithms import PublicKey
from drift_sign_notation.certificates import readable
from drift_sign_notation.config import RevokedConfig
from drift_sign_notation.identities import read_name
from drift_sign_notation.refusal import Refused

Revoked = frozenset[tuple[Name, int]]
"""Certificates by issuer and serial, which is unique per issuer alone."""


def read_list(content: bytes) -> CertificateRevocationList:
    """Returns a list of revoked certificates in PEM or DER, which may have expired. Raises `Refused`."""
    with readable("the list of revoked certificates"):
        pem = content.startswith(b"-----BEGIN")
        found = load_pem_x509_crl(content) if pem else load_der_x509_crl(content)
        # The library reads these no earlier than it is asked, which no signature has to wait for.
        _ = found.issuer, found.extensions
    return found


def read_revoked(configs: Iterable[RevokedConfig]) -> Revoked:
    """Returns issuers and serials of a configuration. Raises `StartError`."""
    try:
        return frozenset((read_name(one.issuer), int(one.serial.replace(":", ""), 16)) for one in configs)
    except Refused as error:
        raise StartError(f"signing.notation.revoked: {error}") from error


def check_revocation(
    chain: Sequence[Certificate], revoked: Revoked, lists: Sequence[CertificateRevocationList], at: datetime
) -> datetime | None:
    """Returns until when this answer is good, None where no list was needed.

    A certificate whose issuer has no list is not revoked by one. Raises `Refused` for one that is revoked, and where no
    list of an issuer is signed by it and current.
    """
    until: list[datetime] = []
    with readable("a name in the chain"):
        if any((certificate.issuer, certificate.serial_number) in revoked for certificate in chain):
            raise Refused("a certificate of the chain is revoked")
        for certificate, issuer in pairwise(chain):
            issued = [one for one in lists if one.issuer == issuer.subject]
            if issued:
                until.append(_check(certificate, issuer, issued, at))
    return min(until, default=None)


def _check(
    certificate: Certificate, issuer: Certificate, lists: Sequence[CertificateRevocationList], at: datetime
) -> datetime:
    # Two authorities may have one name, such as before and after a change of keys.
    signed = [one for one in lists if _is_signed_by(one, issuer)]
    if any(one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None for one in signed):
        raise Refused("a certificate of the chain is revoked")
    whole = [one for one in signed if _is_whole(one)]
    ends = [one.next_update_utc for one in whole if one.last_update_utc <= at]
    current = [end for end in ends if end is not None and at < end]
    if not current:
        later = [one.last_update_utc.timestamp() for one in whole if at < one.last_update_utc]
        reason = "a list of revoked certificates has expired, is not whole, or not signed by the issuer"
        raise Refused(reason, min(later, default=None))
    return max(current)


def _is_signed_by(found: CertificateRevocationList, issuer: Certificate) -> bool:
    key = issuer.public_key()
    # `check_chain` has let no other kinds into a chain.
    assert isinstance(key, PublicKey)  # noqa: S101
    usage = issuer.extensions.get_extension_for_class(KeyUsage).value
    return usage.crl_sign and found.is_signature_valid(key)


def _is_whole(found: CertificateRevocationList) -> bool:
    # A list that says so critically is a part of another, or of some certificates only.
    return not any(extension.critical for extension in found.extensions)
