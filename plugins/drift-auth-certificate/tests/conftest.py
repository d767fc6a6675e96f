"""A certificate authority of the test's own, and what requests say that come with its certificates."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drift_core.api import Credentials, ServerSettings, Services
from drift_core.conformance import services as lent

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PARTS = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}


class Authority:
    """Signs certificates with a key that is made here."""

    past = NOW - DAY
    future = NOW + DAY

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            self._builder(self.name, self.key, NOW - 2 * DAY, NOW + 2 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(begins).not_valid_after(ends)

    def sign(
        self,
        *subject: tuple[str, str],
        names: Sequence[x509.GeneralName] = (),
        begins: datetime = past,
        ends: datetime = future,
        server: bool = False,
    ) -> tuple[str, str]:
        """Returns certificate and key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(PARTS[part], value) for part, value in subject])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(name, key, begins, ends).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return pem(builder.sign(self.key, hashes.SHA256())), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def write(self, file: Path) -> str:
        """Writes its own certificate, and returns the path."""
        file.write_text(pem(self.certificate))
        return str(file)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def authority() -> Authority:
    return Authority("clients")


@pytest.fixture
def another() -> Authority:
    return Authority("strangers")


@pytest.fixture
def shown() -> Callable[[str], Credentials]:
    """Makes what a request says whose client has shown a certificate."""
    return lambda certificate: Credentials(None, (("host", "example.org"),), "192.0.2.1", certificate=certificate)


@pytest.fixture
def with_authorities() -> Services:
    """What the core lends where clients can show a certificate."""
    settings = ServerSettings("127.0.0.1:0", 100, 5.0, "cert.pem", "key.pem", "clients.pem")
    return lent("auth-certificate", settings)
