"""What a configuration trusts, and what it must not say."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_sign_cosign.certificates import Store
from drift_sign_cosign.config import CosignConfig, SigningConfig, TrustedIdentity
from drift_sign_cosign.keys import Trusted
from drift_sign_cosign.revocation import load_revocation_list
from drift_sign_cosign.trust import Trust, load_trust
from drift_sign_cosign.verifier import open_verifier
from msgspec.structs import replace

from drift_core.api import Judgement, KeyInfo, StartError, TrustStore, VerificationKey
from drift_core.conformance import services

from .conftest import DAY, IMAGE, NOW, REPOSITORY, Authority, at, judged, private_key, public_pem, signer

BEACON = f"https://github.com/acme/app/.github/workflows/{'long' * 50}.yml@refs/heads/main"
Write = Callable[[str, bytes], str]


def ours(write: Write, root: Authority) -> TrustStore:
    return TrustStore(name="ours", root_certificate_paths=(write("root", root.certificate.public_bytes(Encoding.PEM)),))


def p521(write: Write) -> dict[str, Any]:
    path = write("p521", public_pem(private_key("p521")))
    return {"public_key_path": path, "algorithm": "ecdsa-p521-sha512", "trusted": False}


def spki(key: Any) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


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
        "d": write("d", public_pem(private_key("ed25519"))),
    }
    config = SigningConfig(
        verification_keys=(
            VerificationKey(key_id="a", public_key_path=paths["a"], certificate_path=paths["own"]),
            VerificationKey(key_id="b", public_key_path=paths["b"], trusted=False),
            VerificationKey(key_id="d", public_key_path=paths["d"], algorithm="rsa-pss-sha256", trusted=False),
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
                fingerprint=spki(key),
                expires_at=NOW + 2 * DAY.total_seconds(),
            ),
            KeyInfo(name="ours: CN=root", kind="authority", expires_at=ends),
            KeyInfo(name="ours: CN=middle", kind="authority", expires_at=NOW + DAY.total_seconds()),
        ]
        assert set(opened.files) == {*paths.values(), "other formats read it"}


@pytest.mark.parametrize("layout", ["legacy", "bundle"])
async def test_one_key_has_one_fingerprint(layout: str, write: Write, root: Authority) -> None:
    """Bare and with a certificate, and as the signer says it."""
    key, other = private_key("p384"), Authority("other")
    config = SigningConfig(
        verification_keys=(VerificationKey(key_id="a", public_key_path=write("a", public_pem(key))),),
        trust_stores=(ours(write, root),),
        cosign=CosignConfig(identities=(TrustedIdentity(subject="*", trust_store="ours"),)),
    )
    trusted = load_trust(config)
    for chain in ((), (root.issue(key=key),), (root.issue("again", key),)):
        by = signer(layout, key=key, chain=chain)
        (made,) = await by.sign(REPOSITORY, IMAGE, "release")
        said = judged(trusted, made)
        assert (said.good, said.fingerprint) == (True, spki(key))
        assert said.trust_stores == (("ours",) if chain else ())
        (info,) = by.keys()
        assert info.fingerprint == spki(key)
    (made,) = await signer(layout, key=key, chain=(other.issue(key=key),)).sign(REPOSITORY, IMAGE, "release")
    assert judged(trusted, made).fingerprint is None
    assert [one.fingerprint for one in trusted.infos()] == [spki(key), None]


@pytest.mark.parametrize("layout", ["legacy", "bundle"])
async def test_all_stores_that_vouch(layout: str, root: Authority) -> None:
    key, middle = private_key("p256"), Authority("middle", root, ends=at(NOW) + 9 * DAY)
    early = Authority("root", key=root.key, begins=at(NOW) + 2 * DAY)
    again = Authority("root", key=root.key)
    stores = {
        "other": Store("other", (Authority("other").certificate,)),
        "above": Store("above", (root.certificate,), (middle.certificate,)),
        "below": Store("below", (middle.certificate,)),
        "again": Store("again", (again.certificate,), (middle.certificate,)),
        "early": Store("early", (early.certificate,), (middle.certificate,)),
    }
    names = (x509.RFC822Name("ci@drift.example"), x509.RFC822Name("cd@drift.example"))
    chain = (middle.issue(key=key, names=names),)
    (made,) = await signer(layout, key=key, chain=chain).sign(REPOSITORY, IMAGE, "release")

    def said(*identities: tuple[str, str]) -> Judgement:
        trusted = tuple(TrustedIdentity(subject=f"{name}@*", trust_store=store) for store, name in identities)
        return judged(Trust(stores=stores, identities=trusted), made)

    every = said(("below", "ci"), ("other", "ci"), ("above", "ci"))
    assert (every.good, every.trust_stores) == (True, ("above", "below"))
    assert said(("below", "ci"), ("above", "ci")).valid_until == (at(NOW) + 9 * DAY).timestamp()
    # What a store is trusted with under another name it does not vouch for.
    other = said(("above", "ci"), ("below", "cd"), ("again", "ci"))
    assert (other.signer, other.trust_stores) == ("identity ci@drift.example", ("above", "again"))
    # A policy may ask for the store that is yet to begin.
    later = said(("above", "ci"), ("early", "ci"))
    assert (later.trust_stores, later.valid_until) == (("above",), (at(NOW) + 2 * DAY).timestamp())


@pytest.mark.parametrize("layout", ["legacy", "bundle"])
@pytest.mark.parametrize("algorithm", [None, "rsa-pss-sha256"])
async def test_a_key_that_is_not_trusted(layout: str, algorithm: Any, write: Write, root: Authority) -> None:
    """No certificate makes up for it, and neither does an entry for another algorithm."""
    key, other = private_key("rsa-2048"), private_key("p256")
    leaf = root.issue(key=key)
    for path in (write("key", public_pem(key)), write("leaf", leaf.public_bytes(Encoding.PEM))):
        entry = VerificationKey(key_id="old", public_key_path=path, algorithm=algorithm, trusted=False)
        trusted = load_trust(
            SigningConfig(
                verification_keys=(entry, VerificationKey(key_id="p521", **p521(write))),
                trust_stores=(ours(write, root),),
                cosign=CosignConfig(identities=(TrustedIdentity(subject="*", trust_store="ours"),)),
            )
        )
        (made,) = await signer(layout, key=key, chain=(leaf,)).sign(REPOSITORY, IMAGE, "release")
        said = judged(trusted, made)
        assert (said.good, said.reason, said.signer) == (False, "the key old is not trusted", None)
        (made,) = await signer(layout, key=other, chain=(root.issue(key=other),)).sign(REPOSITORY, IMAGE, "release")
        assert judged(trusted, made).good
    (bare,) = await signer(layout, key=key).sign(REPOSITORY, IMAGE, "release")
    both = Trust((Trusted("new", key.public_key()),), distrusted={spki(key): "old"})
    assert judged(both, bare).reason == "the key old is not trusted"
    with pytest.raises(StartError, match=r"the key 'old' cannot be used; .*: it is no public key"):
        load_trust(SigningConfig(verification_keys=(replace(entry, public_key_path=write("x", b"x")),)))


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
