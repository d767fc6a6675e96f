"""Whatever is made of a real envelope, by whoever has no key: it is refused, and no error."""

import json

import pytest
from drift_sign_notation import cose, jws
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .artifacts import cose_of, judge, jws_of, stored
from .authorities import Certified

ROOT = Certified.root()
SIGNER = ROOT.signer()
REAL = {"jws": jws_of(SIGNER), "cose": cose_of(SIGNER)}
MEDIA_TYPES = {"jws": jws.MEDIA_TYPE, "cose": cose.MEDIA_TYPE}
LIMITS = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
BOTH = pytest.mark.parametrize("kind", ["jws", "cose"])


def envelope_of(kind: str) -> bytes:
    """Returns the blob that is no configuration."""
    (content,) = (blob for blob in REAL[kind].blobs if blob != b"{}")
    return content


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """Returns a content from which some was cut, exchanged, or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        stop = min(len(content), start + draw(st.sampled_from([0, 1, 2, 16, len(content)])))
        put = draw(st.one_of(st.binary(max_size=8), st.just(content[start:stop] * 2)))
        content = content[:start] + put + content[stop:]
    return content


@BOTH
@LIMITS
@given(data=st.data())
def test_an_edited_envelope(kind: str, data: st.DataObject) -> None:
    content = data.draw(edited(envelope_of(kind)))
    judgement = judge(ROOT, stored(content, MEDIA_TYPES[kind]))
    # Blanks between members of JSON are nobody's signature.
    same = content == envelope_of(kind) or (kind == "jws" and _parsed(content) == json.loads(envelope_of(kind)))
    assert same or not judgement.good
    assert judgement.good or judgement.reason


@BOTH
@LIMITS
@given(content=st.binary(max_size=300))
@example(content=b"\xd2" + b"\x9f" * 200)
@example(content=b"[" * 300)
@example(content=b'{"a":' * 60)
def test_any_bytes(kind: str, content: bytes) -> None:
    judgement = judge(ROOT, stored(content, MEDIA_TYPES[kind]))
    assert (judgement.good, bool(judgement.reason)) == (False, True)


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None
