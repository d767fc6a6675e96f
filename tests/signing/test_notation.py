"""Signing by a certificate for the clients of the Notary Project, and both formats beside each other."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.faults.inspection import PATIENCE, eventually
from tests.oci.client import Registry
from tests.oci.content import Document
from tests.signing.place import ENFORCED, Place, always, pulled, push_image, replace, sign, verify
from tests.tools import tool

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


class Authority:
    """A root, and whom it issues certificates to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Drift tests")])
        self.certificate = self._builder(self.name, self.key.public_key(), authority=True).sign(self.key, SHA256())

    def _builder(self, name: x509.Name, key: Any, *, authority: bool) -> x509.CertificateBuilder:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
        return (
            x509.CertificateBuilder(self.name, name, key, x509.random_serial_number(), NOW - DAY, NOW + 20 * DAY)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
        )

    def issue(self, folder: Path, name: str) -> x509.Certificate:
        """Writes a key and its chain for somebody, and returns the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        # What notation wants of a subject: country, state, organization.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "NZ"),
                x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Otago"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Drift"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        leaf = (
            self._builder(subject, key.public_key(), authority=False)
            .add_extension(usage, critical=False)
            .sign(self.key, SHA256())
        )
        chain = leaf.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(chain)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(pem)
        return leaf

    def revoke(self, *certificates: x509.Certificate) -> bytes:
        """Returns a list of what is revoked."""
        builder = x509.CertificateRevocationListBuilder(self.name, NOW - DAY, NOW + DAY)
        for certificate in certificates:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


AUTHORITY = Authority()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, x509.Certificate]:
    folder = tmp_path_factory.mktemp("notation")
    return folder, AUTHORITY.issue(folder, "release")


@pytest.fixture(scope="module")
def place(certificate: tuple[Path, x509.Certificate]) -> Iterator[Place]:
    folder, _ = certificate
    (folder / "root.pem").write_bytes(AUTHORITY.certificate.public_bytes(Encoding.PEM))
    (folder / "revoked.crl").write_bytes(AUTHORITY.revoke())
    signing = {
        "signing_keys": [
            {
                "key_id": "release",
                "key_path": str(folder / "release.key"),
                "certificate_path": str(folder / "release.pem"),
            }
        ],
        "verification_keys": [],
        "trust_stores": [
            {
                "name": "default",
                "root_certificate_paths": [str(folder / "root.pem")],
                "crl_urls": [f"file://{folder / 'revoked.crl'}"],
            }
        ],
        "default_key_id": "release",
    }
    policy = {**ENFORCED, "require_certificate_chain": True, "allowed_signature_formats": ["notary-v2"]}
    # The program that verifies logs in as nobody.
    with Place(folder, policy, signing=signing, rbac={"enabled": True, "admins": ["root"], "public": ["*"]}) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


@pytest.fixture
def nobody(place: Place) -> Iterator[Registry]:
    with Registry(place.server.url, fresh=True) as client:
        yield client


def notation(place: Place, manifest: Document, trusted: Path) -> bool:
    """Says whether the Notary Project's own library takes the signatures of an image."""
    words = [tool("notation-helper"), "verify", f"{place.server.host}/team/app@{manifest.digest}", str(trusted)]
    return subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False).returncode == 0


def test_by_a_certificate(place: Place, root: Registry, nobody: Registry, tmp_path: Path) -> None:
    manifest = push_image(root, "team/app", "one")
    assert pulled(nobody, "team/app", "one") == 403
    made = sign(root, "team/app", "one", formats=["notary-v2"])
    assert [(one["format"], one["tag"]) for one in made] == [("notary-v2", None)]
    assert pulled(nobody, "team/app", "one") == 200
    (said,) = verify(root, "team/app", "one")["signatures"]
    assert (said["format"], said["trusted"], said["certificate_chain_valid"]) == ("notary-v2", True, True)
    assert "CN=release" in said["signer"]
    assert notation(place, manifest, place.folder / "root.pem")
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().certificate.public_bytes(Encoding.PEM))
    assert not notation(place, manifest, other)


def test_both_formats_by_one_key(root: Registry) -> None:
    push_image(root, "team/both", "one")
    assert {one["format"] for one in sign(root, "team/both", "one")} == {"cosign", "notary-v2"}
    found = verify(root, "team/both", "one")
    # No identity is trusted by cosign's rules, and its format is not allowed.
    assert {(one["format"], one["trusted"]) for one in found["signatures"]} == {("cosign", False), ("notary-v2", True)}


def test_keys_say_when_they_end(root: Registry) -> None:
    keys = {(key["format"], key["kind"]): key for key in root.get("/admin/signing/keys").json()}
    for kind in ("signing key", "authority"):
        key = keys["notary-v2", kind]
        assert (key["expires_at"], key["warning"]) == ((NOW + 20 * DAY).timestamp(), "expires soon")


def test_a_revoked_certificate(root: Registry, nobody: Registry, certificate: tuple[Path, x509.Certificate]) -> None:
    folder, leaf = certificate
    push_image(root, "team/revoked", "one")
    sign(root, "team/revoked", "one", formats=["notary-v2"])
    assert pulled(nobody, "team/revoked", "one") == 200
    replace(folder / "revoked.crl", AUTHORITY.revoke(leaf))
    eventually(lambda: always(nobody, "team/revoked", "one", 403), "a refusal")
    (said,) = verify(root, "team/revoked", "one")["signatures"]
    assert "revoked" in said["errors"][0]
    replace(folder / "revoked.crl", AUTHORITY.revoke())
    eventually(lambda: always(nobody, "team/revoked", "one", 200), "pulls")


def test_a_key_of_another_format(tmp_path: Path) -> None:
    """A key by whose certificate no signature of the Notary Project could be good is no obstacle to others."""
    AUTHORITY.issue(tmp_path, "leaf")
    entry: dict[str, Any] = {"key_id": "leaf", "key_path": str(tmp_path / "leaf.key")}
    entry["certificate_path"] = str(tmp_path / "alone.pem")
    whole = (tmp_path / "leaf.pem").read_bytes()
    (tmp_path / "alone.pem").write_bytes(whole[: whole.index(b"-----END CERTIFICATE-----\n") + 26])
    place = Place(tmp_path, signing={"signing_keys": [entry]})
    with pytest.raises(RuntimeError, match="'notary-v2' of drift-sign-notation"):
        place.start()
    place = Place(tmp_path, signing={"signing_keys": [entry | {"formats": ["cosign"]}]})
    with place, place.client("root") as root:
        keys = root.get("/admin/signing/keys").json()
    assert [key["format"] for key in keys if key["kind"] == "signing key"] == ["cosign"]
