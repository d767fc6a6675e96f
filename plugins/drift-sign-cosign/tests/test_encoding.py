"""What is read in one way only, for any input."""

import json
import re
from base64 import b64decode
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from drift_sign_cosign.bundle import read_bundle
from drift_sign_cosign.certificates import check_leaf, is_self_signed, oidc_issuer, read_der, read_pem, subjects
from drift_sign_cosign.dsse import IN_TOTO, pae, read_envelope, write_envelope
from drift_sign_cosign.encoding import MOST_BRACKETS, member, read_base64, read_json, write_base64, write_json
from drift_sign_cosign.globs import matches
from drift_sign_cosign.legacy import check_payload, write_payload
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.statement import check_signed, write_statement
from drift_sign_cosign.verification import judge
from hypothesis import given
from hypothesis import strategies as st

from drift_core.api import Signature

from .conftest import ANYWHERE, CLI, IMAGE, MANIFEST, NOW, REPOSITORY, artifact, configured, trust, trusting

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GOOD = [artifact(name) for name in ("cosign-v3-legacy-cert", "cosign-v3-bundle-certchain", "cosign-v3-bundle-sign")]


@given(st.binary(max_size=100))
def test_base64(content: bytes) -> None:
    assert read_base64(write_base64(content), "text") == content


@given(st.text(st.sampled_from("AQgw+/-_= \n\x00\u00e9"), max_size=12))
def test_one_text_for_each_content(text: str) -> None:
    with suppress(Refused):
        assert write_base64(read_base64(text, "text")) == text


@pytest.mark.parametrize("text", ["QQ", "QQ=", "QR==", "QQ==\n", "QQ===", " QQ==", "QQ==QQ==", "-_8=", "Q", "\u00e9"])
def test_base64_that_is_not_canonical(text: str) -> None:
    with pytest.raises(Refused, match="the text is no canonical base64"):
        read_base64(text, "text")


@given(JSON)
def test_json(value: Any) -> None:
    with suppress(UnicodeEncodeError):
        assert read_json(write_json(value), "text") == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"NaN",
        b"[Infinity]",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b"[" * MOST_BRACKETS,
        b"9" * 100_000,
    ],
)
def test_json_that_is_not_strict(content: bytes) -> None:
    with pytest.raises(Refused, match="the text is no strict JSON"):
        read_json(content, "text")


@pytest.mark.parametrize("content", [b"[" * (MOST_BRACKETS + 1), b'{"' + b"[{" * (MOST_BRACKETS // 2) + b'":1}'])
def test_json_with_too_many_brackets(content: bytes) -> None:
    with pytest.raises(Refused, match="it is nested too much"):
        read_json(content, "text")
    assert read_json(b'{"%s":1}' % (b"[" * (MOST_BRACKETS - 1)), "text")


@pytest.mark.parametrize("node", [None, [], {}, {"a": None}, {"a": "1"}, {"a": True}, {"a": 1.0}])
def test_a_member_of_another_type(node: Any) -> None:
    with pytest.raises(Refused, match="a is missing or of another type"):
        member(node, "a", int)


def test_pae() -> None:
    """The example of the specification: DSSE protocol v1.0.2."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("\N{SNOWMAN}", b"") == b"DSSEv1 3 \xe2\x98\x83 0 "


@given(st.text(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
def test_pae_is_of_one_envelope(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    with suppress(UnicodeEncodeError):
        same = (kind, payload) == (other_kind, other)
        assert (pae(kind, payload) == pae(other_kind, other)) is same


@given(st.binary(), st.binary())
def test_an_envelope(payload: bytes, signature: bytes) -> None:
    envelope = write_envelope(payload, signature)
    assert read_envelope(json.loads(json.dumps(envelope))) == (payload, signature)
    assert (envelope["payloadType"], b64decode(envelope["payload"])) == (IN_TOTO, payload)


@given(st.text("ab*.", max_size=8), st.text("ab.", max_size=12))
def test_a_pattern(pattern: str, name: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, name) is (re.fullmatch(expression, name) is not None)


@given(JSON)
def test_any_payload(value: Any) -> None:
    """It is refused, and no error."""
    for check in (
        lambda content: check_payload(content, IMAGE, REPOSITORY, None),
        lambda content: check_signed(content, IMAGE),
        read_bundle,
    ):
        with suppress(UnicodeEncodeError), pytest.raises(Refused):
            check(write_json(value))


@given(st.sampled_from(["payload", "statement"]), st.data())
def test_any_payload_with_one_other_member(kind: str, data: st.DataObject) -> None:
    content = (
        write_payload(f"a.b/{REPOSITORY}", IMAGE.digest, {"a": "b"}, NOW)
        if kind == "payload"
        else write_statement(IMAGE, {"a": "b"}, NOW)
    )
    node = json.loads(content)
    place = node
    while isinstance(place, dict):
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    with suppress(Refused, UnicodeEncodeError):
        if kind == "payload":
            check_payload(write_json(node), IMAGE, REPOSITORY, None)
        else:
            check_signed(write_json(node), IMAGE)


@given(st.sampled_from(GOOD), st.data())
def test_any_damage(made: Signature, data: st.DataObject) -> None:
    """Bytes of the manifest or the blob are others: it is judged, and what is good was signed so."""
    trusted = trusting("cosign")
    manifest, blob = bytearray(made.manifest), bytearray(made.blobs[0])
    target = data.draw(st.sampled_from([manifest, blob]))
    for _ in range(data.draw(st.integers(1, 3))):
        target[data.draw(st.integers(0, len(target) - 1))] = data.draw(st.integers(0, 255))
    damaged = Signature(MANIFEST, bytes(manifest), (bytes(blob),))
    for judgement in judge(trusted, ANYWHERE, REPOSITORY, IMAGE, damaged, NOW):
        assert judgement.good is (not judgement.reason)
        assert not judgement.good or damaged.blobs == made.blobs


def test_a_manifest_that_is_none() -> None:
    for manifest in (b"", b"[]", b"null", b'"x"', b'{"layers": 1}', b'{"layers": [1, null]}', b'{"config": []}'):
        assert judge(trust(), configured(), REPOSITORY, IMAGE, Signature(MANIFEST, manifest), NOW) == []


@given(st.binary(min_size=1, max_size=4), st.integers(0))
def test_a_damaged_certificate(damage: bytes, place: int) -> None:
    """It is whole, or refused: nothing that is asked of it later is an error."""
    (certificate,) = read_pem((CLI / "keys/cert-root.pem").read_bytes())
    der = bytearray(certificate.public_bytes(Encoding.DER))
    start = place % (len(der) - len(damage))
    der[start : start + len(damage)] = damage
    with suppress(Refused, Warning):
        read = read_der(bytes(der))
        for ask in (subjects, oidc_issuer, check_leaf, is_self_signed):
            with suppress(Refused):
                ask(read)


def test_too_many_members() -> None:
    """A number for each two bytes takes the longer to parse, while nothing else can be done, the more there are."""
    content = b'{"a":[1' + b",1" * 250_000 + b"]}"
    with pytest.raises(Refused, match="too many members"):
        read_json(content, "bundle")
