"""The kit's rules of signers with their verifiers, and of plugins."""

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from drift_sign_cosign.config import CosignConfig, TrustedIdentity
from drift_sign_cosign.keys import Trusted
from drift_sign_cosign.trust import Trust
from drift_sign_cosign.verifier import TrustVerifier
from drift_sign_intoto import plugin
from drift_sign_intoto.config import InTotoConfig, SigningConfig
from drift_sign_intoto.verification import claims, judge

from drift_core.api import Driver, Signer, SigningKey, TrustStore, VerificationKey, Verifier
from drift_core.conformance import PluginSuite, SigningSuite
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY, Sample, sign

from . import conftest as made

SAMPLES = (
    "cosign-v2-legacy-att",
    "cosign-v3-legacy-att",
    "cosign-v3-bundle-attest-custom",
    "cosign-v3-bundle-attest-slsa",
)
EARLIER = made.NOW - 0.75 * made.DAY.total_seconds()


def verifier_of(trusted: Trust) -> Verifier:
    config = SigningConfig()
    return TrustVerifier(config, trusted, claims, partial(judge, trusted, config.in_toto), lambda: made.NOW)


class TestKey(SigningSuite):
    """By a key."""

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def signer(self) -> Signer:
        return made.signer(registry_name="registry.example")

    @pytest.fixture
    def stranger(self) -> Signer:
        return made.signer(key=made.private_key("stranger"))

    @pytest.fixture
    def verifier(self) -> Verifier:
        old = made.private_key("certified")
        ended = Trusted("old", old.public_key(), certificate=made.leaf(made.at(made.NOW) - made.DAY / 2))
        return verifier_of(Trust((*made.trust().keys, ended)))

    @pytest.fixture
    async def expired(self) -> Sample:
        """A key counts while its certificate is valid."""
        (signature,) = await sign(made.signer(key=made.private_key("certified")), "release")
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        return verifier_of(Trust()), False

    @pytest.fixture
    def samples(self, monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> list[Sample]:
        monkeypatch.setattr(verifier, "judge", verifier_of(made.cosign()).judge)
        return [("any", made.IMAGE, made.artifact(name)) for name in SAMPLES]


class TestCertificate(SigningSuite):
    """By a certificate."""

    large = 1 << 22

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def signer(self) -> Signer:
        return made.signer(key=made.private_key("certified"), chain=(made.leaf(),))

    @pytest.fixture
    def stranger(self) -> Signer:
        key = made.private_key("stranger")
        forged = made.certificate("leaf", key, "root", key, ends=made.at(made.NOW) + made.DAY)
        return made.signer(key=key, chain=(forged,))

    @pytest.fixture
    def verifier(self, root: x509.Certificate) -> Verifier:
        return verifier_of(made.vouching(root))

    @pytest.fixture
    async def expired(self) -> Sample:
        leaf = made.leaf(made.at(made.NOW) - made.DAY / 2)
        signer = made.signer(key=made.private_key("certified"), chain=(leaf,), now=EARLIER)
        (signature,) = await sign(signer, "release")
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        return verifier_of(Trust()), False


class Files(PluginSuite):
    """A driver that reads its keys from files."""

    allowed_imports: ClassVar[Collection[str]] = ("drift_sign_cosign",)

    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def configs(self, tmp_path: Path, root: x509.Certificate) -> tuple[SigningConfig, SigningConfig]:
        key = made.private_key()
        contents = {
            "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "key.pub": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "root.pem": root.public_bytes(Encoding.PEM),
            "predicate.json": json.dumps({"by": "somebody"}).encode(),
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        path = {name: str(tmp_path / name) for name in contents}
        keys = (SigningKey(key_id="release", key_path=path["key.pem"]),)
        verification_keys = (VerificationKey(key_id="release", public_key_path=path["key.pub"]),)
        written = {"predicate_path": path["predicate.json"], "predicate_type": made.TYPE}
        one = SigningConfig(signing_keys=keys, verification_keys=verification_keys, in_toto=InTotoConfig(**written))
        two = SigningConfig(
            registry_name="registry.example",
            signing_keys=keys,
            verification_keys=verification_keys,
            trust_stores=(TrustStore(name="ours", root_certificate_paths=(path["root.pem"],)),),
            cosign=CosignConfig(identities=(TrustedIdentity(subject="*@drift.example", trust_store="ours"),)),
            in_toto=InTotoConfig(
                predicate_types=(made.TYPE,), builders=("https://*",), sources=("https://*",), **written
            ),
        )
        return one, two


class TestSignerPlugin(Files):
    @pytest.fixture
    def driver(self) -> Driver[Signer]:
        (driver,) = plugin.drift_signers()
        return driver

    @pytest.fixture
    def use(self) -> Use:
        async def use(signer: Signer) -> None:
            assert await signer.sign(REPOSITORY, IMAGE, "release")

        return use


class TestVerifierPlugin(Files):
    @pytest.fixture
    def driver(self) -> Driver[Verifier]:
        (driver,) = plugin.drift_verifiers()
        return driver

    @pytest.fixture
    def use(self) -> Use:
        async def use(verifier: Verifier) -> None:
            (signature,) = await made.signer().sign(REPOSITORY, IMAGE, "release")
            assert [judgement.good for judgement in await verifier.judge(REPOSITORY, IMAGE, signature)] == [True]

        return use
