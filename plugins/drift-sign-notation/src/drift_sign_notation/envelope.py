"""What both envelopes hold, and the rules of their signed attributes: specification, "Signature Envelope"."""

from collections.abc import Callable, Mapping
from typing import Final

from cryptography.x509 import Certificate

from drift_core.api import Struct
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import is_array

PAYLOAD_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"
SCHEME: Final = "io.cncf.notary.signingScheme"
SIGNING_TIME: Final = "io.cncf.notary.signingTime"
EXPIRY: Final = "io.cncf.notary.expiry"
SIGNING_AGENT: Final = "io.cncf.notary.signingAgent"
AUTHENTIC_SIGNING_TIME: Final = "io.cncf.notary.authenticSigningTime"
VERIFICATION_PLUGIN: Final = "io.cncf.notary.verificationPlugin"

X509: Final = "notary.x509"
AGENT: Final = "drift-sign-notation/0.1"


class Attributes(Struct, frozen=True):
    """When a signature was made, as its signer says, and until when it is good; in seconds since the epoch."""

    signed_at: float
    expires_at: float | None = None


class Envelope(Struct, frozen=True):
    """What was read of an envelope, in whichever format; nothing of it is proven yet.

    ``algorithm`` is what the envelope states, by its name in that format. ``signed`` are the bytes that ``signature``
    is of. ``chain`` has at least one certificate, that of the signer first.
    """

    format: str
    algorithm: str | int
    attributes: Attributes
    payload: bytes
    signed: bytes
    signature: bytes
    chain: tuple[Certificate, ...]


def read_attributes(
    headers: Mapping[str, object], critical: object, content_type: object, seconds: Callable[[object], float]
) -> Attributes:
    """Returns the signed attributes, if there is nothing among them that has to be understood and is not.

    ``headers`` are those that are signed, by name; ``critical`` is what the envelope says of which must be understood;
    ``seconds`` reads a time of the format. Raises `Refused`.
    """
    if content_type != PAYLOAD_TYPE:
        raise Refused("the content type of the payload is another one")
    if VERIFICATION_PLUGIN in headers:
        raise Refused("the signature needs a verification plugin")
    if headers.get(SCHEME) != X509:
        raise Refused("the signing scheme is missing or not supported")
    if AUTHENTIC_SIGNING_TIME in headers:
        raise Refused("an authentic signing time is not part of this signing scheme")
    _check_critical(headers, critical)
    if SIGNING_TIME not in headers:
        raise Refused("the signing time is missing")
    signed_at = seconds(headers[SIGNING_TIME])
    expires_at = seconds(headers[EXPIRY]) if EXPIRY in headers else None
    if expires_at is not None and expires_at <= signed_at:
        raise Refused("the signature expires before it is made")
    return Attributes(signed_at, expires_at)


def critical_of(attributes: Attributes) -> list[str]:
    """Returns which signed headers have to be understood by who reads an envelope with these attributes."""
    return [SCHEME] if attributes.expires_at is None else [SCHEME, EXPIRY]


def _check_critical(headers: Mapping[str, object], critical: object) -> None:
    if not is_array(critical) or not critical:
        raise Refused("the list of critical headers is missing or malformed")
    names = [name for name in critical if isinstance(name, str)]
    if len(names) != len(critical) or len(set(names)) != len(names):
        raise Refused("the list of critical headers is malformed")
    if not headers.keys() >= set(names):
        raise Refused("a critical header is absent")
    if not {SCHEME, EXPIRY, SIGNING_TIME} >= set(names):
        raise Refused("a critical header is unknown")
    if SCHEME not in names or (EXPIRY in headers and EXPIRY not in names):
        raise Refused("a header that has to be critical is not")
