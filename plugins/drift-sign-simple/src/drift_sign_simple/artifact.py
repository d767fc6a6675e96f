"""Puts a message of OpenPGP into a manifest, and takes it out."""

from typing import Any

from drift_core.api import Descriptor, Digest, DigestInvalid, Signature
from drift_sign_simple.encoding import as_list, as_object, member, read_json, write_json
from drift_sign_simple.message import LARGEST
from drift_sign_simple.refusal import Refused

# It is Drift's own: containers/image keeps these signatures beside a registry, so that they have no form in OCI.
FORMAT = "application/vnd.drift.simple-signature.v1+openpgp"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"

LARGEST_MANIFEST = 64 << 10
"""Most bytes of a manifest that names one layer; those that are written have about 700."""


def write_artifact(subject: Descriptor, content: bytes) -> Signature:
    """Returns the artifact of one message, the same whenever it is asked for, so that nothing is stored twice."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": FORMAT,
        "config": _descriptor(EMPTY_TYPE, EMPTY),
        "layers": [_descriptor(FORMAT, content)],
        "subject": {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size},
    }
    return Signature(MANIFEST, write_json(manifest), (content, EMPTY))


def is_ours(media_type: str, manifest: bytes) -> bool:
    """Says whether a manifest is one of this format, good or not."""
    return _read_manifest(media_type, manifest).get("artifactType") == FORMAT


def read_artifact(signature: Signature, subject: Descriptor | None = None) -> bytes:
    """Returns the message in an artifact; ``subject`` None is any.

    Raises:
        Refused: the artifact is about another subject, is not what `write_artifact` makes, or lacks its blob.
    """
    manifest = _read_manifest(signature.media_type, signature.manifest)
    if subject is not None:
        _check_subject(manifest, subject)
    layers = as_list(manifest.get("layers"))
    if len(layers) != 1 or as_object(layers[0]).get("mediaType") != FORMAT:
        raise Refused("there is not exactly one layer with a signature")
    try:
        digest = Digest.parse(member(layers[0], "digest", str))
    except DigestInvalid:
        raise Refused("the digest of the layer is none") from None
    size = member(layers[0], "size", int)
    for blob in signature.blobs:
        if len(blob) == size <= LARGEST and Digest.of(blob, digest.algorithm) == digest:
            return blob
    raise Refused("the blob with the signature is missing, too large, or not what the manifest says")


def _read_manifest(media_type: str, content: bytes) -> dict[str, Any]:
    """Returns an image manifest; an empty object for what is none, or too large to be that of a signature."""
    if media_type != MANIFEST or len(content) > LARGEST_MANIFEST:
        return {}
    try:
        return as_object(read_json(content, "manifest"))
    except Refused:
        return {}


def _check_subject(manifest: dict[str, Any], subject: Descriptor) -> None:
    said = as_object(manifest.get("subject"))
    if (said.get("digest"), said.get("size"), said.get("mediaType")) != (
        subject.digest,
        subject.size,
        subject.media_type,
    ):
        raise Refused("the manifest has another subject")


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}
