"""The kit's rules of signers with their verifiers, and of plugins."""

from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from drift_sign_cosign import plugin
from drift_sign_cosign.config import CosignConfig, SigningConfig, TrustedIdentity
from drift_sign_cosign.keys import Trusted
from drift_sign_cosign.trust import Trust
from drift_sign_cosign.verification import claims, judge
from drift_sign_cosign.verifier import TrustVerifier

from drift_core.api import Driver, Secret, Signer, SigningKey, TrustStore, Verifier
from drift_core.api import VerificationKey as Verification
from drift_core.conformance import PluginSuite, SigningSuite
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY, Sample, sign

from . import conftest as made
from .conftest import Authority

EARLIER = made.NOW - 0.75 * made.DAY.total_seconds()
FIXED = ("cosign", "ec256", "ec384", "rsa2048", "rsa4096")
SAMPLES = (
    "cosign-v2-bundle-sign",
    "cosign-v2-legacy-sig",
    "cosign-v3-bundle-ec256",
    "cosign-v3-bundle-ec384",
    "cosign-v3-bundle-rsa2048",
    "cosign-v3-bundle-rsa4096",
    "cosign-v3-bundle-sign",
    "cosign-v3-legacy-ec256",
    "cosign-v3-legacy-ec384",
    "cosign-v3-legacy-rsa2048",
    "cosign-v3-legacy-rsa4096",
    "cosign-v3-legacy-sig-2layers",
)


def verifier_of(trusted: Trust, config: SigningConfig = SigningConfig()) -> Verifier:  # noqa: B008
    return TrustVerifier(config, trusted, claims, partial(judge, trusted, config), lambda: made.NOW)


class TestKey(SigningSuite):
    """By a key, in both layouts."""

    algorithm = "p256"

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def signer(self) -> Signer:
        return made.signer(key=made.private_key(self.algorithm))

    @pytest.fixture
    def stranger(self) -> Signer:
        return made.signer(key=made.private_key(self.algorithm, "stranger"))

    @pytest.fixture
    def verifier(self, root: Authority) -> Verifier:
        (trusted,) = made.trust(key=made.private_key(self.algorithm)).keys
        old = made.private_key(self.algorithm, "old")
        ended = Trusted("old", old.public_key(), certificate=root.issue(key=old, ends=made.at(made.NOW) - made.DAY / 2))
        return verifier_of(Trust((trusted, ended)))

    @pytest.fixture
    async def expired(self) -> Sample:
        """A key counts while its certificate is valid."""
        key = made.private_key(self.algorithm, "old")
        (signature,) = await sign(made.signer("bundle", key=key), "release")
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        return verifier_of(Trust()), False

    @pytest.fixture
    def samples(self, monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> list[Sample]:
        monkeypatch.setattr(verifier, "judge", verifier_of(made.trusting(*FIXED), made.ANYWHERE).judge)
        return [("any", made.IMAGE, made.artifact(name)) for name in SAMPLES]


class TestEd25519(TestKey):
    """By a key of another kind."""

    algorithm = "ed25519"
    large = 1 << 22


class TestCertificate(SigningSuite):
    """By a certificate with an intermediate authority."""

    large = 1 << 22

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def middle(self, root: Authority) -> Authority:
        return Authority("middle", root)

    @pytest.fixture
    def signer(self, middle: Authority) -> Signer:
        key = made.private_key("p256", "certified")
        return made.signer(key=key, chain=(middle.issue(key=key), middle.certificate))

    @pytest.fixture
    def stranger(self) -> Signer:
        key, other = made.private_key("p256", "stranger"), Authority("root")
        return made.signer(key=key, chain=(other.issue(key=key, signed_by=key),))

    @pytest.fixture
    def verifier(self, root: Authority) -> Verifier:
        return verifier_of(made.vouching(root.certificate))

    @pytest.fixture
    async def expired(self, root: Authority) -> Sample:
        key = made.private_key("p256", "certified")
        leaf = root.issue(key=key, ends=made.at(made.NOW) - made.DAY / 2)
        (signature,) = await sign(made.signer("bundle", key=key, chain=(leaf,), now=EARLIER), "release")
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        return verifier_of(Trust()), False


class Files(PluginSuite):
    """A driver that reads its keys from files."""

    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def configs(self, tmp_path: Path, root: Authority) -> tuple[SigningConfig, SigningConfig]:
        key, other = made.private_key("p256"), made.private_key("ed25519")
        contents = {
            "key.pem": made.pem(key),
            "key.pub": made.public_pem(key),
            "other.pem": made.pem(other),
            "leaf.pem": root.issue(key=key).public_bytes(Encoding.PEM),
            "root.pem": root.certificate.public_bytes(Encoding.PEM),
            "root.crl": root.revoke().public_bytes(Encoding.DER),
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        path = {name: str(tmp_path / name) for name in contents}
        one = SigningConfig(
            signing_keys=(SigningKey(key_id="release", algorithm="ecdsa-p256-sha256", key_path=path["key.pem"]),),
            verification_keys=(Verification(key_id="release", public_key_path=path["key.pub"]),),
        )
        identity = TrustedIdentity(subject="*@drift.example", issuer="https://issuer.example", trust_store="ours")
        two = SigningConfig(
            signing_keys=(
                SigningKey(key_id="release", key_path=path["key.pem"], certificate_path=path["leaf.pem"]),
                SigningKey(key_id="notation", key_path="none", algorithm="rsa-pss-sha256", password=Secret("x")),
            ),
            verification_keys=(
                Verification(
                    key_id="release", public_key_path=path["key.pub"], certificate_path=path["leaf.pem"], trusted=False
                ),
                Verification(key_id="notation", public_key_path="none", algorithm="rsa-pss-sha256"),
            ),
            trust_stores=(
                TrustStore(
                    name="ours",
                    root_certificate_paths=(path["root.pem"],),
                    intermediate_certificate_paths=(path["root.pem"],),
                    crl_urls=(f"file://{path['root.crl']}",),
                ),
            ),
            cosign=CosignConfig(
                layouts=("bundle",),
                docker_reference="ignore",
                identities=(identity,),
            ),
            registry_name="registry.example",
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
            (signature,) = await made.signer("bundle").sign(REPOSITORY, IMAGE, "release")
            assert await verifier.judge(REPOSITORY, IMAGE, signature)

        return use
