"""The envelope in JSON: JWS of RFC 7515 section 7.2.2, as the specification's "JWS Signature Envelope" narrows it."""

import json
from base64 import b64encode
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from drift_sign_notation.algorithms import sign
from drift_sign_notation.certificates import read_der
from drift_sign_notation.envelope import (
    AGENT,
    EXPIRY,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_AGENT,
    SIGNING_TIME,
    X509,
    Attributes,
    Envelope,
    critical_of,
    read_attributes,
)
from drift_sign_notation.keys import SigningKey
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import (
    is_array,
    is_object,
    read_base64,
    read_base64url,
    read_object,
    read_time,
    write_base64url,
    write_time,
)

MEDIA_TYPE: Final = "application/jose+json"
MEMBERS: Final = frozenset({"payload", "protected", "header", "signature"})


def read(content: bytes) -> Envelope:
    """Returns what an envelope says. Raises `Refused` where it is not exactly as the specification has it."""
    envelope = read_object(content, "the envelope")
    if envelope.keys() != MEMBERS:
        raise Refused("the envelope has other members than it should")
    protected = read_object(read_base64url(envelope["protected"], "the protected header"), "the protected header")
    algorithm = protected.get("alg")
    if not isinstance(algorithm, str):
        raise Refused("the algorithm is missing")
    header = envelope["header"]
    chain = header.get("x5c") if is_object(header) else None
    if not is_array(chain) or not chain:
        raise Refused("the certificates are missing")
    return Envelope(
        "jws",
        algorithm,
        read_attributes(protected, protected.get("crit"), protected.get("cty"), read_time),
        read_base64url(envelope["payload"], "the payload"),
        f"{envelope['protected']}.{envelope['payload']}".encode(),
        read_base64url(envelope["signature"], "the signature"),
        tuple(read_der(read_base64(certificate, "a certificate")) for certificate in chain),
    )


def write(key: SigningKey, payload: bytes, attributes: Attributes) -> bytes:
    """Returns an envelope that is signed; blocks for as long as the key needs, RSA some milliseconds."""
    protected: dict[str, Any] = {
        "alg": key.algorithm.jws,
        "crit": critical_of(attributes),
        "cty": PAYLOAD_TYPE,
        SCHEME: X509,
        SIGNING_TIME: write_time(attributes.signed_at),
    }
    if attributes.expires_at is not None:
        protected[EXPIRY] = write_time(attributes.expires_at)
    head, body = (write_base64url(part) for part in (json.dumps(protected).encode(), payload))
    envelope = {
        "payload": body,
        "protected": head,
        "header": {
            "x5c": [b64encode(certificate.public_bytes(Encoding.DER)).decode() for certificate in key.chain],
            SIGNING_AGENT: AGENT,
        },
        "signature": write_base64url(sign(key.private, f"{head}.{body}".encode())),
    }
    return json.dumps(envelope).encode()
