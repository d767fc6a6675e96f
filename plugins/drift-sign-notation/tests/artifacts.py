"""Signatures as others could make them: by a key of theirs, but with anything in the envelope that they like."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from drift_sign_notation import cose, jws, manifest, payload
from drift_sign_notation.algorithms import algorithm_of, sign
from drift_sign_notation.config import SigningConfig
from drift_sign_notation.envelope import PAYLOAD_TYPE, SCHEME, SIGNING_TIME
from drift_sign_notation.identities import Identities
from drift_sign_notation.policies import LEVELS, Policies, Policy
from drift_sign_notation.revocation import Revoked, read_list
from drift_sign_notation.strictly import write_base64url, write_time
from drift_sign_notation.trust import TrustStore
from drift_sign_notation.verification import Judge
from drift_sign_notation.verifier import load_verifier

from drift_core.api import Descriptor, Digest, Judgement, Signature
from drift_core.api import TrustStore as TrustStoreConfig

from .authorities import NOW, Certified

FIXTURES = Path(__file__).parent / "fixtures"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE = Descriptor(MANIFEST, Digest.of(b"image"), 1234)
OTHER = Descriptor(MANIFEST, Digest.of(b"other"), 1234)
ABSENT = object()
"""Stands for a header or a member that is left out."""

Sign = Callable[[Any, bytes], bytes]


def changed(whole: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in (dict(whole) | dict(changes)).items() if value is not ABSENT}


def stored(envelope: bytes, media_type: str, of: Descriptor = IMAGE, **changes: Any) -> Signature:
    """Returns an artifact with this envelope, whose manifest has these members changed."""
    whole = manifest.write(of, media_type, envelope, (), NOW.timestamp())
    content = json.dumps(changed(json.loads(whole.manifest), changes)).encode()
    return Signature(MANIFEST, content, whole.blobs)


def jws_of(
    signer: Certified,
    headers: Mapping[str, Any] | None = None,
    chain: Sequence[Certificate] | None = None,
    content: bytes | None = None,
    members: Mapping[str, Any] | None = None,
    sign: Sign = sign,
    encoded: Callable[[dict[str, Any]], bytes] = lambda value: json.dumps(value).encode(),
) -> Signature:
    """Returns a JWS with some signed headers, members of the envelope, or the whole payload changed."""
    usual = {
        "alg": algorithm_of(signer.key).jws,
        "crit": [SCHEME],
        "cty": PAYLOAD_TYPE,
        SCHEME: "notary.x509",
        SIGNING_TIME: write_time(NOW.timestamp()),
    }
    head = write_base64url(encoded(changed(usual, headers or {})))
    body = write_base64url(payload.write(IMAGE) if content is None else content)
    x5c = [b64encode(one.public_bytes(Encoding.DER)).decode() for one in (signer.chain if chain is None else chain)]
    envelope = {
        "payload": body,
        "protected": head,
        "header": {"x5c": x5c},
        "signature": write_base64url(sign(signer.key, f"{head}.{body}".encode())),
    }
    return stored(json.dumps(changed(envelope, members or {})).encode(), jws.MEDIA_TYPE)


def cose_of(
    signer: Certified,
    headers: Mapping[int | str, Any] | None = None,
    content: bytes | None = None,
    sign: Sign = sign,
    tag: int | None = 18,
    unprotected: Mapping[Any, Any] | None = None,
) -> Signature:
    """Returns a COSE_Sign1 with some headers or the whole payload changed; ``tag`` None is one without a tag."""
    usual = {
        1: algorithm_of(signer.key).cose,
        2: [SCHEME],
        3: PAYLOAD_TYPE,
        SCHEME: "notary.x509",
        SIGNING_TIME: cbor2.CBORTag(1, int(NOW.timestamp())),
    }
    protected = cbor2.dumps(changed(usual, headers or {}))
    body = payload.write(IMAGE) if content is None else content
    x5chain = {33: [one.public_bytes(Encoding.DER) for one in signer.chain]}
    signature = sign(signer.key, cbor2.dumps(["Signature1", protected, b"", body]))
    parts = [protected, changed(x5chain, unprotected or {}), body, signature]
    return stored(cbor2.dumps(parts if tag is None else cbor2.CBORTag(tag, parts)), cose.MEDIA_TYPE)


def salted(length: int) -> Sign:
    """Returns a way to sign by RSA-PSS with a salt of another length."""

    def sign(key: RSAPrivateKey, message: bytes) -> bytes:
        digest = algorithm_of(key).digest()
        return key.sign(message, PSS(MGF1(digest), length), digest)

    return sign


def judge(
    trusted: Certified,
    signature: Signature,
    subject: Descriptor = IMAGE,
    level: str = "strict",
    identities: Sequence[str] = ("*",),
    at: float = NOW.timestamp(),
    revoked: Revoked = frozenset(),
    crls: Sequence[Path] = (),
) -> Judgement:
    """Returns the judgement of one who trusts the last certificate of a chain."""
    lists = tuple(read_list(path.read_bytes()) for path in crls)
    store = TrustStore("default", trusted.chain[-1:], (), lists)
    policy = Policy("test", LEVELS[level], (store,), Identities(identities))
    judge = Judge(Policies({"*": policy}), revoked, lambda: at)
    (judgement,) = judge.judge("team/app", subject, signature)
    return judgement


async def judged(
    config: SigningConfig,
    signature: Signature,
    subject: Descriptor = IMAGE,
    repository: str = "team/app",
    at: float = NOW.timestamp(),
) -> Judgement:
    """Returns the judgement of one who reads a configuration."""
    (judgement,) = await load_verifier(config, lambda: at).judge(repository, subject, signature)
    return judgement


def refusal(trusted: Certified, signature: Signature, subject: Descriptor = IMAGE, **options: Any) -> str:
    """Returns why a signature is refused, which it has to be."""
    judgement = judge(trusted, signature, subject, **options)
    assert judgement.good is False
    assert judgement.reason
    return judgement.reason


def fixture_config() -> SigningConfig:
    roots = TrustStoreConfig(name="default", root_certificate_paths=(str(FIXTURES / "notation-root.crt"),))
    return SigningConfig(trust_stores=(roots,))


def fixture(name: str) -> Signature:
    folder = FIXTURES / "notation" / name
    return Signature(MANIFEST, (folder / "manifest.json").read_bytes(), ((folder / "layer0.bin").read_bytes(), b"{}"))


def fixture_subject() -> Descriptor:
    content = (FIXTURES / "subject.manifest.json").read_bytes()
    return Descriptor(MANIFEST, Digest.of(content), len(content))
