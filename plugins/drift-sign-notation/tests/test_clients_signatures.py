"""What notation itself has signed is good, for what it was signed for, while it lasts."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from drift_core.api import Digest

from .artifacts import FIXTURES, fixture, fixture_config, fixture_subject, judged, stored

AT = datetime(2026, 11, 24, 22, tzinfo=UTC).timestamp()
NAMES = sorted(folder.name for folder in (FIXTURES / "notation").iterdir())
ROOT_THUMBPRINT = "b42e66db2d0e5952"
ALGORITHMS = {
    "rsa2048": "rsa-pss-sha256",
    "rsa3072": "rsa-pss-sha384",
    "ec256": "ecdsa-p256-sha256",
    "ec384": "ecdsa-p384-sha384",
}


def test_there_are_fixtures() -> None:
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
async def test_a_signature_is_good(name: str) -> None:
    judgement = await judged(fixture_config(), fixture(name), fixture_subject(), at=AT)
    kind, *_ = name.split("-")
    assert judgement.good, judgement.reason
    assert judgement.algorithm == ALGORITHMS[kind]
    subject = f"CN=drift-{kind},O=Drift Test,L=Seattle,ST=WA,C=US"
    assert judgement.signer == f"certificate {subject}; authority {ROOT_THUMBPRINT}"
    assert (judgement.trust_stores, judgement.key_id, judgement.self_signed) == (("default",), None, False)
    assert judgement.signed_at == datetime(2026, 11, 24, 21, 8, tzinfo=UTC).timestamp()
    assert judgement.warnings == ()
    ends = datetime(2026, 11, 25, 21, 8, tzinfo=UTC).timestamp()
    assert judgement.valid_until == ends if "expiry" in name else (judgement.valid_until or 0) > ends


@pytest.mark.parametrize("name", NAMES)
async def test_it_is_refused_for_another_subject(name: str) -> None:
    subject = fixture_subject()
    layer = fixture(name).blobs[0]
    media_type = "application/jose+json" if "jws" in name else "application/cose"
    for other, why in (
        (replace(subject, digest=Digest.of(b"other")), "digest"),
        (replace(subject, size=402), "size"),
        (replace(subject, media_type="application/vnd.oci.image.index.v1+json"), "media type"),
    ):
        # As it lies there, and pushed again with a manifest that belongs to the other subject.
        for signature, where in ((fixture(name), "manifest"), (stored(layer, media_type, other), "payload")):
            judgement = await judged(fixture_config(), signature, other, at=AT)
            assert (judgement.good, judgement.reason) == (False, f"the {where} names another {why}")


@pytest.mark.parametrize("name", [name for name in NAMES if "expiry" in name])
async def test_it_is_refused_from_the_second_on_when_it_expires(name: str) -> None:
    ends = datetime(2026, 11, 25, 21, 8, tzinfo=UTC).timestamp()
    assert (await judged(fixture_config(), fixture(name), fixture_subject(), at=ends - 1)).good
    judgement = await judged(fixture_config(), fixture(name), fixture_subject(), at=ends)
    assert (judgement.good, judgement.reason) == (False, "the signature has expired")
