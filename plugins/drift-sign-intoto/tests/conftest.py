"""Keys and an authority of the tests' own, and the attestations that cosign made."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from drift_sign_cosign import algorithms, bundle
from drift_sign_cosign.artifact import descriptor
from drift_sign_cosign.certificates import Store, at
from drift_sign_cosign.config import TrustedIdentity
from drift_sign_cosign.dsse import IN_TOTO, pae, write_envelope
from drift_sign_cosign.encoding import write_json
from drift_sign_cosign.keys import Key, Trusted, read_public_key
from drift_sign_cosign.legacy import ATTESTATION, CONFIG
from drift_sign_cosign.statement import write_statement
from drift_sign_cosign.trust import Trust
from drift_sign_intoto.config import InTotoConfig, SigningConfig
from drift_sign_intoto.provenance import V02, V1
from drift_sign_intoto.signer import AttestationSigner, Predicate
from drift_sign_intoto.verification import judge

from drift_core.api import Descriptor, Digest, Judgement, Signature

FIXTURES = Path(__file__).parent / "fixtures"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REPOSITORY = "team/app"
NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
DAY = timedelta(days=1)
TYPE = "https://drift.example/reviewed/v1"

_image = (FIXTURES / "subject.manifest.json").read_bytes()
IMAGE = Descriptor(MANIFEST, str(Digest.of(_image)), len(_image))
OTHER = Descriptor(MANIFEST, str(Digest.of(b"other")), IMAGE.size)

BUILDER = "https://builder.example/v1"
SOURCE = "https://git.example/acme/app"
PREDICATES: dict[str, Any] = {
    V1: {
        "buildDefinition": {
            "buildType": "https://builder.example/type",
            "externalParameters": {"workflow": {"ref": "refs/heads/main", "repository": SOURCE}},
            "resolvedDependencies": [{"uri": f"git+{SOURCE}@refs/heads/main"}, {"uri": "pkg:pypi/msgspec"}],
        },
        "runDetails": {"builder": {"id": BUILDER}},
    },
    V02: {
        "builder": {"id": BUILDER},
        "buildType": "https://builder.example/type",
        "invocation": {"configSource": {"uri": f"git+{SOURCE}"}},
        "materials": [{"uri": f"git+{SOURCE}@refs/heads/main"}, {"uri": "pkg:pypi/msgspec"}],
    },
}

Change = Callable[[Any], None]


@cache
def private_key(name: str = "release") -> Any:
    """Returns a key for each name."""
    del name
    return ec.generate_private_key(ec.SECP256R1())


def artifact(name: str) -> Signature:
    """Returns what cosign stored."""
    folder = FIXTURES / name
    return Signature(MANIFEST, (folder / "manifest.json").read_bytes(), ((folder / "layer0.bin").read_bytes(),))


def cosign() -> Trust:
    """Returns who trusts the key of the fixtures."""
    return Trust((Trusted("cosign", read_public_key((FIXTURES / "cosign.pub").read_bytes())),))


def trust(*, key: Any = None, trusted: bool = True) -> Trust:
    """Returns who trusts ``release``."""
    return Trust((Trusted("release", (key or private_key()).public_key(), trusted),))


def signer(
    *,
    key: Any = None,
    chain: Sequence[x509.Certificate] = (),
    predicate: Predicate | None = Predicate(TYPE, {"by": "somebody"}),  # noqa: B008
    registry_name: str | None = None,
    now: float = NOW,
) -> AttestationSigner:
    """Returns who attests as ``release``, at the time of the tests."""
    config = SigningConfig(registry_name=registry_name)
    return AttestationSigner(config, predicate, [Key("release", key or private_key(), tuple(chain))], lambda: now)


def judgements(
    trusted: Trust, signature: Signature, subject: Descriptor = IMAGE, now: float = NOW, **config: Any
) -> Sequence[Judgement]:
    return judge(trusted, InTotoConfig(**config), REPOSITORY, subject, signature, now)


def judged(trusted: Trust, signature: Signature, subject: Descriptor = IMAGE, **config: Any) -> Judgement:
    """Returns the judgement on an artifact of one attestation."""
    (judgement,) = judgements(trusted, signature, subject, **config)
    return judgement


def refused(judgement: Judgement, reason: str) -> None:
    assert (judgement.good, judgement.reason) == (False, reason)


def unchanged(_: Any) -> None:
    pass


def statement(change: Change = unchanged, kind: str = TYPE, subject: Descriptor = IMAGE) -> bytes:
    """Returns a statement that is changed before it is signed."""
    node = json.loads(write_statement(subject, {}, NOW, kind, PREDICATES.get(kind, {})))
    change(node)
    return json.dumps(node).encode()


def provenance(kind: str, change: Change = unchanged) -> bytes:
    """Returns a statement with SLSA provenance."""
    predicate = deepcopy(PREDICATES[kind])
    change(predicate)
    return statement(lambda node: node.update(predicate=predicate), kind)


def said(payload: bytes, key: Any = None, message: bytes | None = None) -> Signature:
    """Returns a bundle that says something, signed."""
    key = key or private_key()
    signature = algorithms.sign(key, pae(IN_TOTO, payload) if message is None else message)
    return bundle.write_artifact(IMAGE, payload, signature, key.public_key(), NOW)


def said_before(*payloads: bytes, key: Any = None, annotations: dict[str, str] | None = None) -> Signature:
    """Returns an artifact of the older layout with an envelope for each payload."""
    key = key or private_key()
    blobs = [write_json(write_envelope(payload, algorithms.sign(key, pae(IN_TOTO, payload)))) for payload in payloads]
    layers = [descriptor(ATTESTATION, blob) | {"annotations": annotations or {}} for blob in blobs]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"{}"), "layers": layers}
    tag = f"{IMAGE.digest.replace(':', '-')}.att"
    return Signature(MANIFEST, write_json(manifest), (*blobs, b"{}"), tag)


def pushed(signature: Signature, layer: bytes) -> Signature:
    """Returns the artifact with another layer, and a manifest that names it."""
    manifest = json.loads(signature.manifest)
    manifest["layers"][0] |= {"digest": str(Digest.of(layer)), "size": len(layer)}
    return Signature(signature.media_type, json.dumps(manifest).encode(), (layer, *signature.blobs[1:]), signature.tag)


USAGE = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def certificate(subject: str, key: Any, issuer: str, by: Any, *, ends: datetime, ca: bool = False) -> x509.Certificate:
    """Returns a certificate for signing code, or one of an authority."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (issuer, subject)]
    used = ("key_cert_sign", "crl_sign") if ca else ("digital_signature",)
    builder = (
        x509.CertificateBuilder(*names, key.public_key(), x509.random_serial_number())
        .not_valid_before(at(NOW) - DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.KeyUsage(**{name: name in used for name in USAGE}), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        names_ = [x509.RFC822Name("ci@drift.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names_), critical=False)
    return builder.sign(by, hashes.SHA256())


def leaf(ends: datetime | None = None) -> x509.Certificate:
    """Returns a certificate of the key ``certified``."""
    return certificate("leaf", private_key("certified"), "root", private_key("root"), ends=ends or at(NOW) + DAY)


@pytest.fixture(scope="session")
def root() -> x509.Certificate:
    key = private_key("root")
    return certificate("root", key, "root", key, ends=at(NOW) + 30 * DAY, ca=True)


def vouching(root: x509.Certificate, subject: str = "ci@drift.example") -> Trust:
    """Returns who trusts one identity of an authority."""
    return Trust(stores={"default": Store("default", (root,))}, identities=(TrustedIdentity(subject=subject),))
