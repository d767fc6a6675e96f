"""The newer layout: a sigstore bundle whose manifest has the image as its subject.

Source: cosign, ``specs/BUNDLE_SPEC.md``; sigstore/protobuf-specs, ``sigstore_bundle.proto``.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from drift_core.api import Descriptor, Signature
from drift_sign_cosign.algorithms import PublicKey, fingerprint
from drift_sign_cosign.artifact import MANIFEST, Blobs, Sealed, check_subject, descriptor, media_type_of
from drift_sign_cosign.certificates import read_der
from drift_sign_cosign.dsse import IN_TOTO, pae, read_envelope, write_envelope
from drift_sign_cosign.encoding import as_list, member, read_base64, read_json, write_base64, write_json
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.statement import SIGNED

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SAME_VERSION = "application/vnd.dev.sigstore.bundle+json;version=0.3"
"""How the media type was written within the first bundles of this version."""

ANY_BUNDLE = "application/vnd.dev.sigstore.bundle"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_CONFIG = b"{}"
MATERIALS = ("publicKey", "certificate", "x509CertificateChain")


def is_bundle(manifest: dict[str, Any]) -> bool:
    """Says whether a manifest is one of a bundle, of whatever version."""
    named = [manifest.get("artifactType"), media_type_of(manifest.get("config"))]
    named += [media_type_of(layer) for layer in as_list(manifest.get("layers"))]
    return any(isinstance(name, str) and name.startswith(ANY_BUNDLE) for name in named)


def write_artifact(
    subject: Descriptor,
    statement: bytes,
    signature: bytes,
    signed_by: PublicKey | Sequence[x509.Certificate],
    now: float,
    predicate_type: str = SIGNED,
) -> Signature:
    """Returns what has to be pushed.

    ``signature`` is one of the statement's `pae`, ``predicate_type`` what the statement says. ``signed_by`` is the key,
    or the leaf and its intermediates. ``now`` is in seconds since the epoch.
    """
    content = write_json(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": _material(signed_by),
            "dsseEnvelope": write_envelope(statement, signature),
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(EMPTY, EMPTY_CONFIG),
        "layers": [descriptor(BUNDLE, content)],
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
            "org.opencontainers.image.created": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "subject": {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest},
        "artifactType": BUNDLE,
    }
    return Signature(MANIFEST, write_json(manifest), (content, EMPTY_CONFIG))


def read_artifact(manifest: dict[str, Any], blobs: Blobs, subject: Descriptor) -> Sealed:
    """Returns the signature of the bundle, which is not yet believed.

    Raises:
        Refused: the manifest has another subject, or the bundle is none of this version with a DSSE envelope.
    """
    check_subject(manifest, subject)
    layers = member(manifest, "layers", list)
    if len(layers) != 1:
        raise Refused("there is not exactly one bundle")
    if media_type_of(layers[0]) != BUNDLE:
        raise Refused("the bundle is not of version 0.3")
    return read_bundle(blobs.read(layers[0]))


def read_bundle(content: bytes) -> Sealed:
    """Returns the signature of a bundle in JSON, which is not yet believed. Raises `Refused`."""
    bundle = read_json(content, "bundle")
    if member(bundle, "mediaType", str) not in (BUNDLE, SAME_VERSION):
        raise Refused("the bundle is not of version 0.3")
    if "dsseEnvelope" not in bundle or "messageSignature" in bundle:
        raise Refused("the bundle has not a DSSE envelope alone")
    material = member(bundle, "verificationMaterial", dict)
    payload, signature = read_envelope(member(bundle, "dsseEnvelope", dict))
    certificates = tuple(_certificates(material))
    logged = content if material.get("tlogEntries") else None
    # The envelope's reader has made sure that this is its type.
    message = pae(IN_TOTO, payload)
    return Sealed(payload, message, signature, certificates, logged)


def _material(signed_by: PublicKey | Sequence[x509.Certificate]) -> dict[str, Any]:
    """Returns what says who signed; the hint is for who looks for the key, and proves nothing."""
    if not isinstance(signed_by, Sequence):
        return {"publicKey": {"hint": write_base64(fingerprint(signed_by))}}
    written = [{"rawBytes": write_base64(one.public_bytes(Encoding.DER))} for one in signed_by]
    # cosign reads the single certificate without a further flag.
    return {"certificate": written[0]} if len(written) == 1 else {"x509CertificateChain": {"certificates": written}}


def _certificates(material: dict[str, Any]) -> Iterator[x509.Certificate]:
    """Yields the certificates that came along, the leaf first; none where there is the hint of a key."""
    if sum(name in material for name in MATERIALS) != 1:
        raise Refused("the bundle does not say by one key or one certificate who signed")
    raw: list[Any] = []
    if "certificate" in material:
        raw = [member(material, "certificate", dict)]
    elif "x509CertificateChain" in material:
        raw = member(member(material, "x509CertificateChain", dict), "certificates", list)
        if not raw:
            raise Refused("the chain of certificates is empty")
    for one in raw:
        yield read_der(read_base64(member(one, "rawBytes", str), "certificate"))
