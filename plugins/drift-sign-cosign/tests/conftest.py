"""Keys and an authority of the tests' own, and the artifacts that cosign made."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from drift_sign_cosign.certificates import Store, at
from drift_sign_cosign.config import CosignConfig, SigningConfig, TrustedIdentity
from drift_sign_cosign.keys import Key, Trusted, read_public_key
from drift_sign_cosign.signer import KeySigner, make
from drift_sign_cosign.trust import Trust
from drift_sign_cosign.verification import judge

from drift_core.api import Descriptor, Digest, Judgement, Signature

FIXTURES = Path(__file__).parent / "fixtures"
CLI = FIXTURES / "cli"
SIGSTORE = FIXTURES / "sigstore"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REPOSITORY = "team/app"
NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
DAY = timedelta(days=1)

_image = (CLI / "subject.manifest.json").read_bytes()
IMAGE = Descriptor(MANIFEST, str(Digest.of(_image)), len(_image))
OTHER = Descriptor(MANIFEST, str(Digest.of(b"other")), IMAGE.size)

USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@cache
def private_key(algorithm: str, name: str = "release") -> Any:
    """Returns a key that is made once, because those for RSA take long."""
    del name
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("rsa-"):
        return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))
    curves: dict[str, Any] = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "k1": ec.SECP256K1}
    return ec.generate_private_key(curves[algorithm]())


def pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


class Authority:
    """Issues certificates; one that has no ``parent`` is a root."""

    def __init__(self, name: str, parent: "Authority | None" = None, key: Any = None, **options: Any) -> None:
        self.name = name
        self.key = key or private_key("p256", name)
        self.certificate = (parent or self).issue(
            name, self.key, ca=True, usage={"key_cert_sign": True, "crl_sign": True}, extended=None, names=(), **options
        )

    def issue(
        self,
        name: str = "leaf",
        key: Any = None,
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        names: Sequence[x509.GeneralName] = (x509.RFC822Name("ci@drift.example"),),
        usage: dict[str, bool] | None = None,
        extended: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CODE_SIGNING,),
        ca: bool = False,
        path_length: int | None = None,
        serial: int | None = None,
        others: Sequence[tuple[x509.ExtensionType, bool]] = (),
        signed_by: Any = None,
    ) -> x509.Certificate:
        key = key or private_key("p256", "leaf")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), serial or x509.random_serial_number())
            .not_valid_before(begins or at(NOW) - DAY)
            .not_valid_after(ends or at(NOW) + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
            .add_extension(x509.KeyUsage(**(USAGE | (usage or {"digital_signature": True}))), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        for extension, critical in others:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signed_by or self.key, hashes.SHA256())

    def revoke(
        self,
        *serials: int,
        ends: datetime | None = None,
        key: Any = None,
        others: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.CertificateRevocationList:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(at(NOW) - 2 * DAY)
            .next_update(ends or at(NOW) + DAY)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder(serial, at(NOW) - DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        for extension, critical in others:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(key or self.key, hashes.SHA256())


def artifact(name: str) -> Signature:
    """Returns what cosign stored."""
    folder = CLI / name
    blobs = tuple(path.read_bytes() for path in sorted(folder.glob("layer*.bin")))
    return Signature(MANIFEST, (folder / "manifest.json").read_bytes(), blobs)


def trusting(*names: str) -> Trust:
    """Returns who trusts keys of the fixtures."""
    return Trust(tuple(Trusted(name, read_public_key((CLI / "keys" / f"{name}.pub").read_bytes())) for name in names))


def vouching(
    root: x509.Certificate, *intermediates: x509.Certificate, subject: str = "ci@drift.example", **options: Any
) -> Trust:
    """Returns who trusts one identity of an authority."""
    store = Store("default", (root,), intermediates, **options)
    return Trust(stores={"default": store}, identities=(TrustedIdentity(subject=subject),))


def configured(registry_name: str | None = None, **cosign: Any) -> SigningConfig:
    """Returns a configuration without keys."""
    return SigningConfig(registry_name=registry_name, cosign=CosignConfig(**cosign))


ANYWHERE = configured(docker_reference="ignore")


def signer(
    *layouts: Any,
    key: Any = None,
    chain: Sequence[x509.Certificate] = (),
    registry_name: str | None = None,
    now: float = NOW,
) -> KeySigner:
    """Returns who signs as ``release``, at the time of the tests."""
    key = Key("release", key or private_key("p256"), tuple(chain))
    config = configured(registry_name, layouts=layouts or ("legacy", "bundle"))
    return KeySigner((), [key], partial(make, config), lambda: now)


def trust(*, key: Any = None, trusted: bool = True) -> Trust:
    """Returns who trusts ``release``."""
    return Trust((Trusted("release", (key or private_key("p256")).public_key(), trusted),))


def judged(trusted: Trust, signature: Signature, subject: Descriptor = IMAGE, **options: Any) -> Judgement:
    """Returns the judgement on an artifact of one signature."""
    (judgement,) = judgements(trusted, signature, subject, **options)
    return judgement


def judgements(
    trusted: Trust,
    signature: Signature,
    subject: Descriptor = IMAGE,
    repository: str = REPOSITORY,
    now: float = NOW,
    config: SigningConfig = SigningConfig(),  # noqa: B008
) -> Sequence[Judgement]:
    return judge(trusted, config, repository, subject, signature, now)


def pushed(signature: Signature, layer: bytes, **members: Any) -> Signature:
    """Returns the artifact with another layer, and a manifest that names it and has other ``members``."""
    manifest = json.loads(signature.manifest) | members
    manifest["layers"][0] |= {"digest": str(Digest.of(layer)), "size": len(layer)}
    return Signature(signature.media_type, json.dumps(manifest).encode(), (layer, *signature.blobs[1:]), signature.tag)


@pytest.fixture(scope="session")
def root() -> Authority:
    return Authority("root")


Change = Callable[[Any], None]
