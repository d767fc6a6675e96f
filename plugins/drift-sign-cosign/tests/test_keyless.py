"""Keyless bundles of Sigstore's public instance, offline."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_sign_cosign.bundle import read_bundle
from drift_sign_cosign.config import CosignConfig, SigningConfig, TrustedIdentity
from drift_sign_cosign.dsse import IN_TOTO
from drift_sign_cosign.keyless import Keyless
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.trust import SIGSTORE as STORE
from drift_sign_cosign.trust import Trust, load_trust
from msgspec.structs import replace

from drift_core.api import StartError

from .conftest import NOW, SIGSTORE, Authority

BEACON = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"
PROD = SIGSTORE / "prod/trusted_root.json"
CASES = [
    ("happy-path-intoto-in-dsse-v3", PROD),
    ("rekor2-dsse-happy-path", SIGSTORE / "rekor2-dsse-happy-path/trusted_root.json"),
]


def trusting(root: Path, subject: str = BEACON, issuer: str | None = ISSUER) -> Trust:
    pytest.importorskip("sigstore")
    identity = TrustedIdentity(subject=subject, issuer=issuer, trust_store=STORE)
    return load_trust(SigningConfig(cosign=CosignConfig(trusted_root=str(root), identities=(identity,))))


def content(name: str) -> bytes:
    return (SIGSTORE / name / "bundle.sigstore.json").read_bytes()


def key_of(name: str) -> str:
    key = read_bundle(content(name)).certificates[0].public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@pytest.mark.parametrize(("name", "root"), CASES)
def test_a_keyless_bundle(name: str, root: Path) -> None:
    proof = trusting(root).prove(read_bundle(content(name)), NOW)
    assert (proof.signer, proof.trust_stores) == (f"identity {BEACON} {ISSUER}", (STORE,))
    assert (proof.algorithm, proof.key_id, proof.valid_until) == ("ecdsa-p256-sha256", None, None)
    assert proof.fingerprint == key_of(name)
    assert proof.signed_at is not None
    assert proof.signed_at < NOW


@pytest.mark.parametrize(("name", "root"), CASES)
def test_a_key_that_is_not_trusted(name: str, root: Path) -> None:
    distrusting = replace(trusting(root), distrusted={key_of(name): "old"})
    with pytest.raises(Refused, match=r"^the key old is not trusted$"):
        distrusting.prove(read_bundle(content(name)), NOW)


@pytest.mark.parametrize(("name", "root"), CASES)
def test_another_identity(name: str, root: Path) -> None:
    for trusted in (trusting(root, BEACON + "x"), trusting(root, issuer=ISSUER + "/")):
        with pytest.raises(Refused, match="the identity in the certificate is not trusted"):
            trusted.prove(read_bundle(content(name)), NOW)


def test_a_bad_signature() -> None:
    sealed = read_bundle(content("dsse-invalid-sig_fail"))
    with pytest.raises(Refused, match="sigstore: "):
        trusting(PROD).prove(sealed, NOW)


@pytest.mark.parametrize("name", ["treeSize", "signedEntryTimestamp", "canonicalizedBody", "integratedTime"])
def test_a_changed_entry_of_the_log(name: str) -> None:
    """A character behind the name is another one."""
    good = content("happy-path-intoto-in-dsse-v3")
    start = good.index(f'"{name}"'.encode()) + len(name) + 6
    other = b"3" if good[start : start + 1] != b"3" else b"4"
    changed = good[:start] + other + good[start + 1 :]
    assert hashlib.sha256(changed).digest() != hashlib.sha256(good).digest()
    with pytest.raises(Refused, match="sigstore: "):
        trusting(PROD).prove(read_bundle(changed), NOW)


class Fake:
    """Judges every bundle, as ``sigstore`` would one of ``certificate`` and ``payload``."""

    def __init__(self, certificate: x509.Certificate, kind: str, payload: bytes, asks: int = 1) -> None:
        self.signing_certificate = certificate
        self.said = (kind, payload)
        self.asks = asks

    def verify_dsse(self, bundle: "Fake", policy: Any) -> tuple[str, bytes]:
        for _ in range(self.asks):
            policy.verify(bundle.signing_certificate)
        return self.said


def test_what_sigstore_judged_is_what_was_read(root: Authority) -> None:
    """However two parsers may read one bundle."""
    sealed = read_bundle(content("happy-path-intoto-in-dsse-v3"))
    leaf, payload = sealed.certificates[0], sealed.payload
    for fake, good in (
        (Fake(leaf, IN_TOTO, payload), True),
        (Fake(root.certificate, IN_TOTO, payload), False),
        (Fake(leaf, "text/plain", payload), False),
        (Fake(leaf, IN_TOTO, payload + b" "), False),
        (Fake(leaf, IN_TOTO, payload, asks=0), False),
    ):
        keyless = Keyless(fake, lambda _, fake=fake: fake)  # type: ignore[misc]
        if good:
            assert keyless.prove(b"", sealed, lambda _: "somebody") == "somebody"
        else:
            with pytest.raises(Refused, match="sigstore has judged something else"):
                keyless.prove(b"", sealed, lambda _: "somebody")


def test_what_a_library_says_is_cut() -> None:
    def fail(_: bytes) -> Any:
        raise ValueError("x" * 1000)

    made = Trust(keyless=Keyless(None, fail))
    judgement = made.judge(read_bundle(content("happy-path-intoto-in-dsse-v3")), lambda _: None, NOW)
    assert (judgement.good, judgement.reason) == (False, "sigstore: ".ljust(200, "x"))


def test_without_a_trusted_root() -> None:
    with pytest.raises(Refused, match="no identity is trusted"):
        Trust().prove(read_bundle(content("happy-path-intoto-in-dsse-v3")), NOW)


def test_a_trusted_root_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("sigstore")
    for path in (tmp_path / "none", SIGSTORE / "happy-path-intoto-in-dsse-v3/bundle.sigstore.json"):
        with pytest.raises(StartError, match="the trusted root cannot be used"):
            trusting(path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_sign_cosign.keyless.optional", lambda _: None)
    with pytest.raises(StartError, match=r"pip install 'drift-sign-cosign\[keyless\]'"):
        load_trust(SigningConfig(cosign=CosignConfig(trusted_root=str(PROD))))
