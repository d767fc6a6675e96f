"""The envelope of a bundle: DSSE, of which the signature covers the type of the payload, too."""

from typing import Any

from drift_sign_cosign.encoding import member, read_base64, write_base64
from drift_sign_cosign.refusal import Refused

IN_TOTO = "application/vnd.in-toto+json"
"""The type of payload that is a statement about artifacts."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Returns the bytes that are signed: the Pre-Authentication Encoding (DSSE protocol v1.0.2, "Signature")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def write_envelope(payload: bytes, signature: bytes) -> dict[str, Any]:
    """Returns an envelope around a statement, with its members in cosign's order."""
    return {
        "payload": write_base64(payload),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": write_base64(signature)}],
    }


def read_envelope(envelope: dict[str, Any]) -> tuple[bytes, bytes]:
    """Returns payload and signature of an envelope around a statement, which is not yet believed.

    Raises:
        Refused: it is around something else, or has not exactly one signature, which is what a bundle has.
    """
    if member(envelope, "payloadType", str) != IN_TOTO:
        raise Refused("the payload type is not in-toto")
    signatures = member(envelope, "signatures", list)
    if len(signatures) != 1:
        raise Refused("the envelope has not exactly one signature")
    payload = read_base64(member(envelope, "payload", str), "payload")
    return payload, read_base64(member(signatures[0], "sig", str), "signature")
