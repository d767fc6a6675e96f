"""Envelopes of the Python library of in-toto are judged, and the library takes those that are made here."""

import json
from typing import Any

import pytest
from drift_sign_cosign.dsse import IN_TOTO
from drift_sign_intoto.provenance import V1
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner

from .conftest import IMAGE, REPOSITORY, judged, private_key, provenance, pushed, refused, said_before, signer, trust


def signed_by_the_library(payload: bytes, key: Any) -> bytes:
    envelope = Envelope(payload, IN_TOTO, {})
    envelope.sign(CryptoSigner(key))
    return json.dumps(envelope.to_dict()).encode()


def test_what_the_library_signs() -> None:
    payload = provenance(V1)
    artifact = pushed(said_before(payload), signed_by_the_library(payload, private_key()))
    assert judged(trust(), artifact).good
    other = pushed(said_before(payload), signed_by_the_library(payload, private_key("stranger")))
    refused(judged(trust(), other), "no trusted key has made the signature")


async def test_what_is_signed_here() -> None:
    (made,) = await signer().sign(REPOSITORY, IMAGE, "release")
    envelope = json.loads(made.blobs[0])["dsseEnvelope"]
    key = CryptoSigner(private_key()).public_key
    for signature in envelope["signatures"]:
        signature["keyid"] = key.keyid
    Envelope.from_dict(json.loads(json.dumps(envelope))).verify([key], 1)
    other = CryptoSigner(private_key("stranger")).public_key
    other.keyid = key.keyid
    with pytest.raises(VerificationError):
        Envelope.from_dict(envelope).verify([other], 1)
