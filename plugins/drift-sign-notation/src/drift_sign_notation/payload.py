"""What is signed: the descriptor of an artifact, in JSON: specification, "Payload"."""

import json
from collections.abc import Mapping
from typing import Final

from drift_core.api import Descriptor
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import is_object, read_object

TARGET: Final = "targetArtifact"
MEMBERS: Final = frozenset({"mediaType", "digest", "size", "annotations"})


def write(subject: Descriptor, annotations: Mapping[str, str] = {}) -> bytes:
    """Returns the payload of a signature of ``subject``; ``annotations`` are notation's ``-m NAME=TEXT``."""
    target = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}
    stated = {"annotations": dict(annotations)} if annotations else {}
    return json.dumps({TARGET: target | stated}).encode()


def check(payload: bytes, subject: Descriptor) -> None:
    """Raises `Refused` unless the payload is well-formed, and of ``subject`` in digest, size and media type."""
    content = read_object(payload, "the payload")
    target = content.get(TARGET)
    if content.keys() != {TARGET} or not is_object(target) or not target.keys() <= MEMBERS:
        raise Refused("the payload is not the descriptor of an artifact")
    check_descriptor(target, subject, "the payload")


def check_descriptor(stated: object, subject: Descriptor, what: str) -> None:
    """Raises `Refused` unless a descriptor, as JSON has it in ``what``, is that of ``subject``."""
    if not is_object(stated):
        raise Refused(f"{what} names no artifact")
    if stated.get("digest") != str(subject.digest):
        raise Refused(f"{what} names another digest")
    size = stated.get("size")
    # 1 == True and 1 == 1.0, but neither is how a size is written.
    if type(size) is not int or size != subject.size:
        raise Refused(f"{what} names another size")
    if stated.get("mediaType") != subject.media_type:
        raise Refused(f"{what} names another media type")
