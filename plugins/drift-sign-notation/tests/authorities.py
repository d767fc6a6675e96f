"""Authorities and signers of a test's own, with anything wrong with their certificates that a test may want."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from drift_sign_notation.algorithms import algorithm_of
from drift_sign_notation.keys import SigningKey

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING

USAGES = (
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


@cache
def rsa_key(bits: int) -> Any:
    """Returns the same key for all that have one so large: to make one takes seconds."""
    return rsa.generate_private_key(65537, bits)


def new_key(kind: str = "ec256") -> Any:
    curves = {"ec256": ec.SECP256R1(), "ec384": ec.SECP384R1(), "ec521": ec.SECP521R1(), "k256": ec.SECP256K1()}
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    return rsa_key(int(kind.removeprefix("rsa")))


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USAGES})


def name_of(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "WA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Drift, Test"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


class Certified:
    """A key and its chain, leaf first; an authority issues others."""

    def __init__(self, key: Any, chain: Sequence[x509.Certificate]) -> None:
        self.key = key
        self.chain = tuple(chain)

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @classmethod
    def root(cls, common: str = "root", kind: str = "ec256", **options: Any) -> Self:
        return cls._issue(None, common, kind, authority=True, **options)

    def authority(self, common: str = "intermediate", kind: str = "ec256", **options: Any) -> "Certified":
        return self._issue(self, common, kind, authority=True, **options)

    def signer(self, common: str = "signer", kind: str = "ec256", **options: Any) -> "Certified":
        return self._issue(self, common, kind, authority=False, **options)

    def certify(self, common: str, key: Any) -> "Certified":
        """Returns a signer with a key that there is already."""
        return self._issue(self, common, "", authority=False, key=key)

    @classmethod
    def self_signed(cls, common: str = "signer", kind: str = "ec256", **options: Any) -> Self:
        return cls._issue(None, common, kind, authority=False, **options)

    @classmethod
    def _issue(
        cls,
        issuer: "Certified | None",
        common: str,
        kind: str,
        *,
        authority: bool,
        ca: bool | None = None,
        path_length: int | None = None,
        usages: Sequence[str] | None = None,
        usage_critical: bool = True,
        purposes: Sequence[x509.ObjectIdentifier] = (),
        begins: datetime = NOW - DAY,
        ends: datetime = NOW + 30 * DAY,
        hashed: HashAlgorithm | None = None,
        serial: int | None = None,
        key: Any = None,
    ) -> Self:
        key = key or new_key(kind)
        by_key = key if issuer is None else issuer.key
        by_name = name_of(common) if issuer is None else issuer.certificate.subject
        ca = authority if ca is None else ca
        builder = (
            x509.CertificateBuilder(by_name, name_of(common), key.public_key(), serial or x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False)
        )
        usual = ("key_cert_sign", "crl_sign") if authority else ("digital_signature",)
        usages = usual if usages is None else usages
        if usages:
            builder = builder.add_extension(usage(*usages), critical=usage_critical)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificate = builder.sign(by_key, hashed or SHA256())
        return cls(key, (certificate, *(() if issuer is None else issuer.chain)))

    def signing_key(self, key_id: str = "release", chain: Sequence[x509.Certificate] | None = None) -> SigningKey:
        """Returns the key without the checks of loading, so that a test can sign with one that is not fit."""
        return SigningKey(key_id, self.key, self.chain if chain is None else tuple(chain), algorithm_of(self.key))

    def write_key(self, path: Path, password: bytes | None = None) -> str:
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return str(path)

    def write_chain(self, path: Path) -> str:
        path.write_bytes(pem(*self.chain))
        return str(path)

    def crl(self, *serials: int, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY, key: Any = None) -> bytes:
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begins, ends)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder(serial, begins).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(key or self.key, SHA256()).public_bytes(Encoding.PEM)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
