"""Judges the attestations in an artifact: bundles, and the layers of cosign's older layout."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from drift_sign_cosign import bundle, statement
from drift_sign_cosign.artifact import (
    MOST_SIGNATURES,
    Blobs,
    Sealed,
    check_subject,
    media_type_of,
    read_manifest,
)
from drift_sign_cosign.dsse import IN_TOTO, pae, read_envelope
from drift_sign_cosign.encoding import as_list, member, read_json
from drift_sign_cosign.legacy import ATTESTATION, certificates_of
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.trust import Trust

from drift_core.api import Descriptor, Judgement, Signature
from drift_sign_intoto.config import InTotoConfig
from drift_sign_intoto.provenance import check_provenance


def claims(media_type: str, manifest: bytes) -> bool:
    """Says whether a manifest is one of bundles, or has a layer that is an attestation."""
    found = read_manifest(manifest, media_type)
    return bundle.is_bundle(found) or bool(_layers(found))


def judge(
    trust: Trust, config: InTotoConfig, repository: str, subject: Descriptor, artifact: Signature, now: float
) -> Sequence[Judgement]:
    """Returns a judgement for each attestation in an artifact, in its order; none where there is none.

    An attestation says nothing of the ``repository``. ``now`` is in seconds since the epoch. Blocks for about 0.1 ms
    per attestation and trusted key.
    """
    del repository
    manifest = read_manifest(artifact.manifest, artifact.media_type)
    blobs = Blobs(artifact.blobs)
    check = partial(check_attestation, config, subject)
    try:
        if bundle.is_bundle(manifest):
            sealed = bundle.read_artifact(manifest, blobs, subject)
            # Whose business it is may be read before it is proved: others refuse it as well.
            if statement.predicate_type(sealed.payload) == statement.SIGNED:
                return []
            return [trust.judge(sealed, check, now)]
        layers = _checked_layers(manifest, subject)
    except Refused as refusal:
        return [Judgement(good=False, reason=refusal.reason)]

    def judged(layer: Any) -> Judgement:
        try:
            sealed = read_layer(layer, blobs)
        except Refused as refusal:
            return Judgement(good=False, reason=refusal.reason)
        return trust.judge(sealed, check, now)

    return [judged(layer) for layer in layers]


def read_layer(layer: Any, blobs: Blobs) -> Sealed:
    """Returns one attestation of the older layout, which is not yet believed. Raises `Refused`."""
    payload, signature = read_envelope(read_json(blobs.read(layer), "envelope"))
    annotations = member(layer, "annotations", dict) if "annotations" in layer else {}
    # The envelope's reader has made sure that this is its type.
    return Sealed(payload, pae(IN_TOTO, payload), signature, tuple(certificates_of(annotations)))


def check_attestation(config: InTotoConfig, subject: Descriptor, payload: bytes) -> float | None:
    """Returns when the signer says it signed, in seconds since the epoch; None where it does not say.

    Raises:
        Refused: the statement is about another artifact, is none that counts, or against what ``config`` says of
            builders and sources.
    """
    said = statement.read_statement(payload)
    kind = member(said, "predicateType", str)
    if kind == statement.SIGNED:
        raise Refused("it is a signature, and no attestation")
    signed_at = statement.check_subject(said, subject)
    if config.predicate_types and kind not in config.predicate_types:
        raise Refused("the predicate type is none that counts")
    check_provenance(config, kind, said.get("predicate"))
    return signed_at


def _layers(manifest: dict[str, Any]) -> list[Any]:
    return [layer for layer in as_list(manifest.get("layers")) if media_type_of(layer) == ATTESTATION]


def _checked_layers(manifest: dict[str, Any], subject: Descriptor) -> list[Any]:
    """Returns the layers that are attestations, of a manifest that may be about ``subject``. Raises `Refused`."""
    layers = _layers(manifest)
    if len(layers) > MOST_SIGNATURES:
        raise Refused(f"there are more than {MOST_SIGNATURES} attestations")
    # cosign writes none here.
    if layers and "subject" in manifest:
        check_subject(manifest, subject)
    return layers
