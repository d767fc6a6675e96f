"""The manifest by which a registry holds a signature: specification, "Signature Specification", section "Storage"."""

import json
from collections.abc import Sequence
from typing import Any, Final

from cryptography.x509 import Certificate

from drift_core.api import ALGORITHMS, Descriptor, Digest, Signature
from drift_sign_notation import cose, jws
from drift_sign_notation.certificates import thumbprint
from drift_sign_notation.payload import check_descriptor
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import is_array, is_nested_too_much, is_object, read_object, write_time

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
SIGNATURE: Final = "application/vnd.cncf.notary.signature"
THUMBPRINTS: Final = "io.cncf.notary.x509chain.thumbprint#S256"
CREATED: Final = "org.opencontainers.image.created"
EMPTY: Final = b"{}"

LARGEST: Final = 256 << 10
"""Most bytes of a manifest; real ones have less than 2 KiB, and nobody else runs while one is parsed."""

LARGEST_ENVELOPE: Final = 256 << 10
"""Most bytes of an envelope; with ten certificates it has about 30 KiB."""


def is_signature(media_type: str, content: bytes) -> bool:
    """Returns whether a manifest is one of this format, be it well-formed or not.

    That is one whose type of artifact, or of configuration where it has none, is that of a signature. One that is too
    large to be read is none.
    """
    if media_type != MANIFEST or len(content) > LARGEST or SIGNATURE.encode() not in content:
        return False
    if is_nested_too_much(content):
        return False
    try:
        manifest: object = json.loads(content)
    except (ValueError, RecursionError):
        return False
    if not is_object(manifest):
        return False
    config = manifest.get("config")
    stated = manifest.get("artifactType") or (config.get("mediaType") if is_object(config) else None)
    return bool(stated == SIGNATURE)


def read(signature: Signature, subject: Descriptor) -> tuple[str, bytes]:
    """Returns media type and bytes of the envelope that a manifest names for which `is_signature` holds.

    Raises `Refused` where the manifest belongs to something else than ``subject``, where it names not exactly one
    layer, or where that is missing, too large, or not what the manifest says.
    """
    manifest = read_object(signature.manifest, "the manifest")
    if manifest.get("schemaVersion") != 2 or manifest.get("mediaType", MANIFEST) != MANIFEST:  # noqa: PLR2004
        raise Refused("the manifest is no image manifest")
    check_descriptor(manifest.get("subject"), subject, "the manifest")
    layers = manifest.get("layers")
    if not is_array(layers) or len(layers) != 1 or not is_object(layers[0]):
        raise Refused("the manifest does not have exactly one layer")
    layer: dict[str, Any] = layers[0]
    media_type, digest, size = (layer.get(member) for member in ("mediaType", "digest", "size"))
    if media_type not in (jws.MEDIA_TYPE, cose.MEDIA_TYPE):
        raise Refused("the envelope has an unknown media type")
    if type(size) is not int or size > LARGEST_ENVELOPE:
        raise Refused(f"the envelope is larger than {LARGEST_ENVELOPE >> 10} KiB, or has no size")
    algorithm = digest.partition(":")[0] if isinstance(digest, str) else ""
    for blob in signature.blobs if algorithm in ALGORITHMS else ():
        if len(blob) == size and digest == str(Digest.of(blob, algorithm)):
            return str(media_type), blob
    raise Refused("the envelope is missing, or not what the manifest says")


def write(
    subject: Descriptor, media_type: str, envelope: bytes, chain: Sequence[Certificate], created: float
) -> Signature:
    """Returns what to push: the manifest that notation 1 writes, which every client finds, and its blobs.

    ``created`` is in seconds since the epoch.
    """
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _described(SIGNATURE, EMPTY),
        "layers": [_described(media_type, envelope)],
        "subject": {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size},
        "annotations": {
            THUMBPRINTS: json.dumps([thumbprint(certificate) for certificate in chain]),
            CREATED: write_time(created),
        },
    }
    return Signature(MANIFEST, json.dumps(manifest).encode(), (envelope, EMPTY))


def _described(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}
