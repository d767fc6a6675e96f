"""The older layout: a manifest with the tag ``sha256-<hex>.sig`` whose layers are payloads of simple signing.

Source: cosign, ``specs/SIGNATURE_SPEC.md``; containers/image, containers-signature(5).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from drift_core.api import Descriptor, Signature
from drift_sign_cosign.artifact import (
    LARGEST_MANIFEST,
    MANIFEST,
    MOST_SIGNATURES,
    Blobs,
    Sealed,
    descriptor,
    media_type_of,
    read_digest,
    read_manifest,
)
from drift_sign_cosign.certificates import read_pem
from drift_sign_cosign.encoding import (
    as_list,
    as_object,
    member,
    only,
    read_base64,
    read_json,
    write_base64,
    write_json,
)
from drift_sign_cosign.refusal import Refused

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ATTESTATION = "application/vnd.dsse.envelope.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
TYPE = "cosign container image signature"
TIMESTAMP = "timestamp"
"""The optional member that says when it was signed, in seconds since the epoch: containers-signature(5)."""

LARGEST_PAYLOAD = 64 << 10
"""Most bytes of what is signed in this layout, which is about 300 and some annotations."""

NEVER = "0001-01-01T00:00:00Z"
LONGEST_TAG = 128
LATEST = 1 << 40
"""A number of seconds that is no time any more; what is later is not taken for one."""


def tag_of(digest: str) -> str | None:
    """Returns the tag of the signatures of an artifact; None where a tag cannot be as long, which is so for sha512."""
    tag = f"{digest.replace(':', '-', 1)}.sig"
    return tag if len(tag) <= LONGEST_TAG else None


def is_legacy(manifest: dict[str, Any]) -> bool:
    """Says whether a manifest is one of signatures in this layout."""
    return any(media_type_of(layer) == PAYLOAD for layer in as_list(manifest.get("layers")))


def write_payload(reference: str, digest: str, annotations: Mapping[str, str], now: float) -> bytes:
    """Returns what is signed; ``reference`` is ``host/repository``, ``now`` in seconds since the epoch."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": TYPE,
    }
    optional: dict[str, Any] = {**annotations, TIMESTAMP: int(now)}
    return write_json({"critical": critical, "optional": dict(sorted(optional.items()))})


def append(
    existing: bytes | None, tag: str, payload: bytes, signature: bytes, chain: Sequence[x509.Certificate]
) -> Signature:
    """Returns the artifact with one signature more; its blobs are those that are new.

    ``existing`` is the manifest that the ``tag`` has by now, or None; whoever pushes the artifact has to make sure that
    nobody else does meanwhile. ``chain`` is the leaf and its intermediates, or nothing.

    Raises:
        Refused: ``existing`` is no manifest of signatures, so that to replace it would lose something; or it has as
            many as are looked at; or nobody would read the payload or the manifest, since it is too large.
    """
    if len(payload) > LARGEST_PAYLOAD:
        raise Refused(f"what is signed has more than {LARGEST_PAYLOAD} bytes")
    annotations = {SIGNATURE: write_base64(signature)}
    if chain:
        leaf, *others = (certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
        annotations |= {CERTIFICATE: leaf, CHAIN: "".join(others)}
    layers = [*_layers(existing), descriptor(PAYLOAD, payload) | {"annotations": annotations}]
    config = write_json(
        {
            "architecture": "",
            "created": NEVER,
            "history": [{"created": NEVER}] * len(layers),
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "config": {},
        }
    )
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers}
    content = write_json(manifest)
    if len(content) > LARGEST_MANIFEST:
        raise Refused(f"the manifest of signatures would have more than {LARGEST_MANIFEST} bytes")
    return Signature(MANIFEST, content, (payload, config), tag)


def read_layer(layer: Any, blobs: Blobs) -> Sealed:
    """Returns one signature of the manifest, which is not yet believed. Raises `Refused`."""
    if media_type_of(layer) != PAYLOAD:
        raise Refused("the layer is no signature")
    annotations = member(layer, "annotations", dict)
    signature = read_base64(member(annotations, SIGNATURE, str), "signature")
    payload = blobs.read(layer, LARGEST_PAYLOAD)
    return Sealed(payload, payload, signature, tuple(certificates_of(annotations)))


def certificates_of(annotations: dict[str, Any]) -> Iterator[x509.Certificate]:
    """Yields the leaf and its intermediates, where a layer came with a certificate. Raises `Refused`."""
    if CERTIFICATE in annotations:
        leaf = read_pem(member(annotations, CERTIFICATE, str).encode(errors="replace"))
        if len(leaf) != 1:
            raise Refused("there is more than one certificate for one signature")
        yield leaf[0]
        # cosign writes an empty text where the chain is only the root.
        if annotations.get(CHAIN, "") != "":
            yield from read_pem(member(annotations, CHAIN, str).encode(errors="replace"))


def check_payload(
    payload: bytes, subject: Descriptor, repository: str | None, registry_name: str | None
) -> float | None:
    """Returns when the signer says it signed, in seconds since the epoch; None where it does not say.

    ``repository`` None is any; ``registry_name`` None is any ``host[:port]``.

    Raises:
        Refused: the payload is about another artifact or repository, or no signature of an image.
    """
    said = read_json(payload, "payload")
    only(said, "critical", "optional")
    critical = member(said, "critical", dict)
    only(critical, "identity", "image", "type")
    image, identity = member(critical, "image", dict), member(critical, "identity", dict)
    only(image, "docker-manifest-digest")
    only(identity, "docker-reference")
    if member(critical, "type", str) != TYPE:
        raise Refused("the type of the signature is unknown")
    if member(image, "docker-manifest-digest", str) != subject.digest:
        raise Refused("another digest was signed")
    reference = member(identity, "docker-reference", str)
    if repository is not None and not _refers(reference, repository, registry_name):
        raise Refused("it was signed for another repository")
    optional = said.get("optional")
    if not isinstance(optional, dict | None):
        raise Refused("optional is missing or of another type")
    time = as_object(optional).get(TIMESTAMP)
    return float(time) if type(time) is int and 0 <= time < LATEST else None


def _layers(existing: bytes | None) -> list[dict[str, Any]]:
    """Returns the layers of the manifest to which a signature is added."""
    if existing is None:
        return []
    layers = as_list(read_manifest(existing).get("layers"))
    if not layers or {media_type_of(layer) for layer in layers} != {PAYLOAD}:
        raise Refused("what has the tag of the signatures is no manifest of signatures")
    if len(layers) >= MOST_SIGNATURES:
        raise Refused(f"there are {MOST_SIGNATURES} signatures already")
    for layer in layers:
        read_digest(layer)
    return layers


def _refers(reference: str, repository: str, registry_name: str | None) -> bool:
    """Says whether a reference without a tag is that of a repository."""
    if registry_name is not None:
        return reference == f"{registry_name}/{repository}"
    host, _, rest = reference.partition("/")
    # What a first part has to have so that it is no part of a path: distribution/reference, "domain".
    return reference == repository or (rest == repository and (host == "localhost" or "." in host or ":" in host))
