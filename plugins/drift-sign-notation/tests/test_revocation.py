"""What lists of revoked certificates in local files say, and that one that says nothing is no permission."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from drift_sign_notation.config import NotationConfig, RevokedConfig, SigningConfig
from drift_sign_notation.revocation import read_revoked
from drift_sign_notation.verifier import load_verifier
from msgspec import ValidationError, convert

from drift_core.api import StartError, TrustStore

from .artifacts import judge, judged, jws_of, refusal
from .authorities import DAY, NOW, Certified, new_key

ROOT = Certified.root()
MIDDLE = ROOT.authority()
SIGNER = MIDDLE.signer()
SIGNATURE = jws_of(SIGNER)
REVOKED = "a certificate of the chain is revoked"
USELESS = "a list of revoked certificates has expired, is not whole, or not signed by the issuer"
LEAF, INTERMEDIATE = (certificate.serial_number for certificate in SIGNER.chain[:2])


@pytest.fixture
def crl(tmp_path: Path) -> Path:
    return tmp_path / "list.crl"


def listed(crl: Path, content: bytes) -> SigningConfig:
    crl.write_bytes(content)
    roots = (ROOT.write_chain(crl.with_name("root.pem")),)
    return SigningConfig(
        trust_stores=(TrustStore(name="default", root_certificate_paths=roots, crl_urls=(crl.as_uri(),)),)
    )


def test_listed_or_not(crl: Path) -> None:
    crl.write_bytes(MIDDLE.crl(LEAF + 1, INTERMEDIATE))
    good = judge(ROOT, SIGNATURE, crls=[crl])
    assert good.good, good.reason
    assert good.valid_until == (NOW + DAY).timestamp()
    crl.write_bytes(MIDDLE.crl(LEAF + 1, LEAF))
    assert refusal(ROOT, SIGNATURE, crls=[crl]) == REVOKED
    lenient = judge(ROOT, SIGNATURE, crls=[crl], level="permissive")
    assert (lenient.good, lenient.warnings) == (True, (REVOKED,))


def test_every_certificate_below_the_root(crl: Path) -> None:
    crl.write_bytes(ROOT.crl(LEAF))
    assert judge(ROOT, SIGNATURE, crls=[crl]).good
    crl.write_bytes(ROOT.crl(INTERMEDIATE))
    assert refusal(ROOT, SIGNATURE, crls=[crl]) == REVOKED


def test_der(crl: Path) -> None:
    crl.write_bytes(x509.load_pem_x509_crl(MIDDLE.crl(LEAF)).public_bytes(Encoding.DER))
    assert refusal(ROOT, SIGNATURE, crls=[crl]) == REVOKED


def test_lists_that_prove_nothing(crl: Path) -> None:
    for content in (
        MIDDLE.crl(ends=NOW),
        MIDDLE.crl(begins=NOW + DAY, ends=NOW + 2 * DAY),
        MIDDLE.crl(key=new_key()),
        MIDDLE.crl(LEAF, key=new_key()),
    ):
        crl.write_bytes(content)
        assert refusal(ROOT, SIGNATURE, crls=[crl]) == USELESS
        assert judge(ROOT, SIGNATURE, crls=[crl], level="permissive").warnings == (USELESS,)
    for content, until in ((MIDDLE.crl(ends=NOW), None), (MIDDLE.crl(begins=NOW + DAY, ends=NOW + 2 * DAY), NOW + DAY)):
        crl.write_bytes(content)
        assert judge(ROOT, SIGNATURE, crls=[crl]).valid_until == (until and until.timestamp())
    crl.write_bytes(MIDDLE.crl(LEAF, ends=NOW))
    assert refusal(ROOT, SIGNATURE, crls=[crl]) == REVOKED


def test_a_list_of_changes_or_of_some_certificates_only(crl: Path) -> None:
    builder = x509.CertificateRevocationListBuilder(MIDDLE.certificate.subject, NOW - DAY, NOW + DAY)
    some = x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=True,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    for extension in (x509.DeltaCRLIndicator(1), some):
        part = builder.add_extension(extension, critical=True).sign(MIDDLE.key, SHA256())
        crl.write_bytes(part.public_bytes(Encoding.PEM))
        assert refusal(ROOT, SIGNATURE, crls=[crl]) == USELESS


def test_an_authority_that_may_not_sign_lists(crl: Path) -> None:
    middle = ROOT.authority(usages=["key_cert_sign"])
    crl.write_bytes(middle.crl())
    assert refusal(ROOT, jws_of(middle.signer()), crls=[crl]) == USELESS


def test_lists_that_cannot_be_read(crl: Path) -> None:
    config = listed(crl, b"")
    crl.unlink()
    with pytest.raises(StartError, match=f"^{crl}: No such file"):
        load_verifier(config)
    whole = MIDDLE.crl()
    der = x509.load_pem_x509_crl(whole).public_bytes(Encoding.DER)
    # The version is the first number within the two outer sequences.
    version = der.index(b"\x02\x01\x01")
    delta = x509.CertificateRevocationListBuilder(MIDDLE.certificate.subject, NOW - DAY, NOW + DAY)
    part = delta.add_extension(x509.DeltaCRLIndicator(1), critical=True).sign(MIDDLE.key, SHA256())
    indicator = bytes.fromhex("0403020101")
    assert part.public_bytes(Encoding.DER).count(indicator) == 1
    for content in (
        der.replace(b"intermediate", b"intermediat\xff"),
        part.public_bytes(Encoding.DER).replace(indicator, bytes.fromhex("0403040101")),
        der[: version + 2] + b"\x09" + der[version + 3 :],
        b"",
        b"x",
        whole[:-100],
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ):
        crl.write_bytes(content)
        with pytest.raises(StartError, match=f"^{crl}: the list of revoked certificates is malformed"):
            load_verifier(config)


def test_an_issuer_whose_name_is_malformed() -> None:
    """The library takes such a certificate, and raises no earlier than it is asked for the name."""
    chain = [renamed(SIGNER.chain[0], MIDDLE), renamed(SIGNER.chain[1], ROOT), ROOT.certificate]
    assert refusal(ROOT, jws_of(SIGNER, chain=chain)) == "a name in the chain is malformed"


def renamed(certificate: x509.Certificate, issuer: Certified) -> x509.Certificate:
    """Returns a certificate in which the intermediate authority's name is no text, signed again."""
    content = certificate.tbs_certificate_bytes.replace(b"intermediate", b"intermediat\xff")
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = b"\0" + issuer.key.sign(content, ECDSA(SHA256()))
    whole = content + algorithm + b"\x03" + bytes([len(signature)]) + signature
    return x509.load_der_x509_certificate(b"\x30\x82" + len(whole).to_bytes(2) + whole)


def test_two_authorities_of_one_name(tmp_path: Path) -> None:
    other = tmp_path / "other.crl"
    other.write_bytes(Certified.root("intermediate").crl(LEAF))
    assert refusal(ROOT, SIGNATURE, crls=[other]) == USELESS
    own = tmp_path / "own.crl"
    own.write_bytes(MIDDLE.crl())
    for crls in ([own, other], [other, own]):
        assert judge(ROOT, SIGNATURE, crls=crls).good


async def test_a_list_of_the_configuration(crl: Path) -> None:
    for content, reason in ((MIDDLE.crl(), ""), (MIDDLE.crl(LEAF), REVOKED), (MIDDLE.crl(ends=NOW), USELESS)):
        judgement = await judged(listed(crl, content), SIGNATURE)
        assert (judgement.good, judgement.reason) == (not reason, reason)


async def test_issuers_and_serials_of_the_configuration(tmp_path: Path) -> None:
    roots = (ROOT.write_chain(tmp_path / "root.pem"),)
    stores = (TrustStore(name="default", root_certificate_paths=roots),)
    name = MIDDLE.certificate.subject.rfc4514_string()
    digits = f"{LEAF:040X}"
    pairs = ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))
    spaced = name.replace(",O=", ", O=")
    for issuer, serial, good in (
        (name, digits, False),
        (spaced, pairs, False),
        (name, f"0x{LEAF:x}", False),
        (name, f"{LEAF + 1:x}", True),
        (ROOT.certificate.subject.rfc4514_string(), digits, True),
    ):
        revoked = (RevokedConfig(issuer=issuer, serial=serial),)
        config = SigningConfig(trust_stores=stores, notation=NotationConfig(revoked=revoked))
        assert (await judged(config, SIGNATURE)).good is good
    with pytest.raises(StartError, match=r"notation\.revoked"):
        read_revoked([RevokedConfig(issuer="nobody", serial="1")])
    for serial in ("", "x", "1:", "-1", "0x", "1 2"):
        with pytest.raises(ValidationError):
            convert({"issuer": "CN=x", "serial": serial}, RevokedConfig)
