"""What a configuration trusts, and what it must not say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from drift_sign_cosign.config import CosignConfig, SigningConfig, TrustedIdentity
from drift_sign_cosign.keys import Trusted
from drift_sign_cosign.revocation import load_revocation_list
from drift_sign_cosign.trust import Trust, load_trust
from drift_sign_cosign.verifier import open_verifier

from drift_core.api import KeyInfo, StartError, TrustStore, VerificationKey
from drift_core.conformance import services

from .conftest import DAY, IMAGE, NOW, REPOSITORY, Authority, at, judged, private_key, public_pem, signer

BEACON = f"https://github.com/acme/app/.github/workflows/{'long' * 50}.yml@refs/heads/main"
Write = Callable[[str, bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


async def test_files(write: Write, root: Authority) -> None:
    middle, key = Authority("middle", root), private_key("p384")
    store = TrustStore(
        name="ours",
        root_certificate_paths=(write("root", root.certificate.public_bytes(Encoding.PEM)),),
        intermediate_certificate_paths=(write("middle", middle.certificate.public_bytes(Encoding.PEM)),),
        crl_urls=(f"file://{write('a crl', root.revoke(1).public_bytes(Encoding.PEM))}",),
    )
    trusted = load_trust(
        SigningConfig(
            verification_keys=(VerificationKey(key_id="a", public_key_path=write("a", public_pem(key))),),
            trust_stores=(store,),
            cosign=CosignConfig(identities=(TrustedIdentity(subject="ci@*", trust_store="ours"),)),
        )
    )
    (by_key,) = await signer("bundle", key=key).sign(REPOSITORY, IMAGE, "release")
    assert judged(trusted, by_key).key_id == "a"
    other = private_key("p256")
    (certified,) = await signer("bundle", key=other, chain=(middle.issue(key=other),)).sign(
        REPOSITORY, IMAGE, "release"
    )
    assert judged(trusted, certified).good
    ours = trusted.stores["ours"]
    assert (ours.roots, ours.intermediates) == ((root.certificate,), (middle.certificate,))
    assert [one.serial_number for one in ours.revocations[0].revoked] == [1]


def test_what_cannot_be_trusted(write: Write, root: Authority) -> None:
    key = write("key", public_pem(private_key("p256")))
    certificate = write("root", root.certificate.public_bytes(Encoding.PEM))
    one = VerificationKey(key_id="a", public_key_path=key)
    store = TrustStore(name="ours", root_certificate_paths=(certificate,))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"verification_keys": (one, one)}, "two verification keys are called 'a'"),
        (
            {"verification_keys": (one, VerificationKey(key_id="b", public_key_path=key))},
            "two verification keys have the fingerprint",
        ),
        ({"trust_stores": (store, store)}, "two trust stores are called 'ours'"),
        (
            {"trust_stores": (TrustStore(name="sigstore", root_certificate_paths=(certificate,)),)},
            "'sigstore' is the name of signing.cosign.trusted_root",
        ),
        ({"trust_stores": (TrustStore(name="x", root_certificate_paths=(key,)),)}, "holds no certificates"),
        (
            {"trust_stores": (store,), "cosign": CosignConfig(identities=(TrustedIdentity(subject="*"),))},
            "there is no trust store 'default'",
        ),
    ]
    for options, reason in cases:
        with pytest.raises(StartError, match=reason):
            load_trust(SigningConfig(**options))


async def test_what_is_said_of_the_trusted(write: Write, root: Authority) -> None:
    middle, key = Authority("middle", root, ends=at(NOW) + DAY), private_key("p384")
    own = root.issue("own", key, signed_by=key, ends=at(NOW) + 2 * DAY)
    paths = {
        "a": write("a", public_pem(key)),
        "own": write("own", own.public_bytes(Encoding.PEM)),
        "root": write("root", root.certificate.public_bytes(Encoding.PEM)),
        "middle": write("middle", middle.certificate.public_bytes(Encoding.PEM)),
        "crl": write("crl", root.revoke(1, ends=at(NOW) - DAY).public_bytes(Encoding.PEM)),
        "b": write("b", public_pem(private_key("p256"))),
    }
    config = SigningConfig(
        verification_keys=(
            VerificationKey(key_id="a", public_key_path=paths["a"], certificate_path=paths["own"]),
            VerificationKey(key_id="b", public_key_path=paths["b"], trusted=False),
            VerificationKey(key_id="c", public_key_path="other formats read it", algorithm="rsa-pss-sha256"),
        ),
        trust_stores=(
            TrustStore(
                name="ours",
                root_certificate_paths=(paths["root"],),
                intermediate_certificate_paths=(paths["middle"],),
                crl_urls=(f"file://{paths['crl']}",),
            ),
        ),
    )
    async with open_verifier(config, services("cosign")) as opened:
        ends = root.certificate.not_valid_after_utc.timestamp()
        assert opened.keys() == [
            KeyInfo(
                name="a",
                kind="verification key",
                algorithm="ecdsa-p384-sha384",
                expires_at=NOW + 2 * DAY.total_seconds(),
            ),
            KeyInfo(name="ours: CN=root", kind="authority", expires_at=ends),
            KeyInfo(name="ours: CN=middle", kind="authority", expires_at=NOW + DAY.total_seconds()),
        ]
        assert set(opened.files) == {*paths.values(), "other formats read it"}


def test_the_trusted_root_is_a_file() -> None:
    assert SigningConfig(cosign=CosignConfig(trusted_root="/a")).trusted_files() == ("/a",)


async def test_a_certificate_that_nobody_else_vouches_for(root: Authority) -> None:
    """Policies may refuse it, also where the operator trusts the key."""
    key = private_key("p256")
    (made,) = await signer("bundle").sign(REPOSITORY, IMAGE, "release")
    own = Authority("release", key=key).certificate
    for certificate, self_signed in ((own, True), (root.issue(key=key), False), (None, False)):
        trusted = Trust((Trusted("a", key.public_key(), certificate=certificate),))
        assert judged(trusted, made).self_signed is self_signed


def test_what_is_no_revocation_list(write: Write, root: Authority) -> None:
    delta = root.revoke(1, others=[(x509.DeltaCRLIndicator(1), True)])
    for content, reason in (
        (b"", "cannot be read: malformed"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "cannot be read: malformed"),
        (delta.public_bytes(Encoding.DER), "not the whole list of one authority"),
    ):
        path = write("crl", content)
        with pytest.raises(StartError, match=reason):
            load_revocation_list(f"file://{path}")
    with pytest.raises(StartError, match="cannot be read: No such file or directory"):
        load_revocation_list("file:///no/such/file")


def test_the_keys_of_the_contract() -> None:
    """By their names; what the core reads of the table is not among them."""
    table: dict[str, Any] = {
        "signing_keys": [
            {"key_id": "k", "algorithm": "ed25519", "key_path": "a", "certificate_path": "b", "password": "hush"}
        ],
        "verification_keys": [
            {
                "key_id": "k",
                "algorithm": "rsa-pss-sha256",
                "public_key_path": "a",
                "certificate_path": "b",
                "trusted": False,
            }
        ],
        "trust_stores": [
            {
                "name": "default",
                "root_certificate_paths": ["a"],
                "intermediate_certificate_paths": ["b"],
                "crl_urls": ["file:///c"],
            }
        ],
    }

    table["registry_name"] = "registry.example:5000"
    table["cosign"] = {
        "layouts": ["bundle"],
        "docker_reference": "ignore",
        "trusted_root": "a",
        "identities": [{"subject": BEACON, "issuer": "https://issuer.example", "trust_store": "sigstore"}],
    }

    def secret(kind: type, value: Any) -> Any:
        return kind(value)

    config = msgspec.convert(table, SigningConfig, dec_hook=secret)
    assert config.cosign.identities[0].subject == BEACON
    assert config.signing_keys[0].password == "hush"
    assert "hush" not in repr(config)
