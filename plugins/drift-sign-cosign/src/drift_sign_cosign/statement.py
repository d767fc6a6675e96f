"""The payload of a bundle: an in-toto statement, which says that an artifact is signed, or else is an attestation."""

from collections.abc import Mapping
from typing import Any

from drift_core.api import Descriptor, Digest
from drift_sign_cosign.encoding import as_object, member, read_json, write_json
from drift_sign_cosign.refusal import Refused

STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
"""Types of a statement, of which the first is written."""

SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The type of predicate that makes a statement a signature; with any other it is an attestation."""

TIMESTAMP = "timestamp"
"""The annotation of a subject by which Drift's signer says when it signed, in seconds since the epoch, as text."""


def write_statement(
    subject: Descriptor,
    annotations: Mapping[str, str],
    now: float,
    predicate_type: str = SIGNED,
    predicate: Mapping[str, Any] = {},
    name: str | None = None,
) -> bytes:
    """Returns a statement about ``subject``; ``now`` is in seconds since the epoch, a ``name`` of None is left out."""
    digest = Digest.parse(subject.digest)
    said: dict[str, Any] = {} if name is None else {"name": name}
    said["digest"] = {digest.algorithm: digest.encoded}
    said["annotations"] = {**annotations, TIMESTAMP: str(int(now))}
    return write_json(
        {"_type": STATEMENTS[0], "subject": [said], "predicateType": predicate_type, "predicate": predicate}
    )


def read_statement(payload: bytes) -> dict[str, Any]:
    """Returns a statement with its ``predicateType``, about whatever. Raises `Refused`."""
    statement = read_json(payload, "statement")
    if member(statement, "_type", str) not in STATEMENTS:
        raise Refused("the payload is no statement")
    member(statement, "predicateType", str)
    return as_object(statement)


def predicate_type(payload: bytes) -> str | None:
    """Returns what a statement says it is, or None for what is no statement."""
    try:
        return member(read_statement(payload), "predicateType", str)
    except Refused:
        return None


def check_subject(statement: dict[str, Any], subject: Descriptor) -> float | None:
    """Returns when the signer says it signed, in seconds since the epoch; None where it does not say.

    Raises:
        Refused: the statement is about other artifacts.
    """
    algorithm, _, encoded = subject.digest.partition(":")
    for said in member(statement, "subject", list):
        if member(said, "digest", dict).get(algorithm) == encoded:
            return _signed_at(as_object(said))
    raise Refused("another digest was signed")


def check_signed(payload: bytes, subject: Descriptor) -> float | None:
    """Returns what `check_subject` does. Raises `Refused` also for an attestation."""
    statement = read_statement(payload)
    if statement["predicateType"] != SIGNED:
        raise Refused("it is an attestation, and no signature")
    return check_subject(statement, subject)


def _signed_at(said: dict[str, Any]) -> float | None:
    text = as_object(said.get("annotations")).get(TIMESTAMP)
    # Others may mean something else by it, so that what is no such time is none.
    return float(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 12 else None  # noqa: PLR2004
