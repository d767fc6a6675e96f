"""Judges the signatures in an artifact, in whichever layout, and leaves attestations to others."""

from collections.abc import Sequence
from typing import Any

from drift_core.api import Descriptor, Judgement, Signature
from drift_sign_cosign import bundle, legacy
from drift_sign_cosign.artifact import MOST_SIGNATURES, Blobs, check_subject, media_type_of, read_manifest
from drift_sign_cosign.config import SigningConfig
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.statement import SIGNED, check_signed, predicate_type
from drift_sign_cosign.trust import Trust


def claims(media_type: str, manifest: bytes) -> bool:
    """Says whether a manifest is one of bundles, or of signatures in the older layout."""
    found = read_manifest(manifest, media_type)
    return bundle.is_bundle(found) or legacy.is_legacy(found)


def judge(
    trust: Trust, config: SigningConfig, repository: str, subject: Descriptor, artifact: Signature, now: float
) -> Sequence[Judgement]:
    """Returns a judgement for each signature of an artifact, in its order; none where there is no signature of cosign.

    ``now`` is in seconds since the epoch. Blocks for about 0.1 ms per signature and trusted key.
    """
    manifest = read_manifest(artifact.manifest, artifact.media_type)
    blobs = Blobs(artifact.blobs)
    try:
        if bundle.is_bundle(manifest):
            sealed = bundle.read_artifact(manifest, blobs, subject)
            # Whose business it is may be read before it is proved: others refuse it as well.
            if predicate_type(sealed.payload) not in (None, SIGNED):
                return []
            return [trust.judge(sealed, lambda payload: check_signed(payload, subject), now)]
        if legacy.is_legacy(manifest):
            return _judged_layers(trust, config, repository, subject, manifest, blobs, now)
    except Refused as refusal:
        return [Judgement(good=False, reason=refusal.reason)]
    return []


def _judged_layers(
    trust: Trust,
    config: SigningConfig,
    repository: str,
    subject: Descriptor,
    manifest: dict[str, Any],
    blobs: Blobs,
    now: float,
) -> Sequence[Judgement]:
    """Returns a judgement for each layer of the older layout that is no attestation. Raises `Refused`."""
    layers = manifest["layers"]
    if len(layers) > MOST_SIGNATURES:
        raise Refused(f"there are more than {MOST_SIGNATURES} signatures")
    # cosign attaches this layout by a subject, too, where it is told to.
    if "subject" in manifest:
        check_subject(manifest, subject)
    wanted = repository if config.cosign.docker_reference == "repository" else None

    def judged(layer: Any) -> Judgement:
        try:
            sealed = legacy.read_layer(layer, blobs)
        except Refused as refusal:
            return Judgement(good=False, reason=refusal.reason)
        return trust.judge(
            sealed, lambda payload: legacy.check_payload(payload, subject, wanted, config.registry_name), now
        )

    return [judged(layer) for layer in layers if media_type_of(layer) != legacy.ATTESTATION]
