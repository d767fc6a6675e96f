"""The kit's rules of signers with their verifiers, and of plugins."""

import json
import time
from pathlib import Path

import pytest
from drift_sign_simple import plugin
from drift_sign_simple.artifact import write_artifact
from drift_sign_simple.config import Remap, SigningConfig, SimpleConfig, SimpleSigningKey, SimpleVerificationKey
from drift_sign_simple.trust import Trust
from drift_sign_simple.verifier import SimpleVerifier

from drift_core.api import Driver, Secret, Signer, SigningKey, SupportsExchange, Verifier
from drift_core.conformance import PluginSuite, SigningSuite
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY, Sample

from . import conftest as made
from .conftest import Gnupg


class TestEd25519(SigningSuite):
    """By a key that GnuPG has exported."""

    algorithm = "ed25519"

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def signer(self, gpg: Gnupg, tmp_path: Path) -> Signer:
        gpg.make(self.algorithm)
        return made.signing(tmp_path, gpg.secret(self.algorithm))

    @pytest.fixture
    def stranger(self, gpg: Gnupg, tmp_path: Path) -> Signer:
        name = f"stranger-{self.algorithm}"
        gpg.make(name, self.algorithm)
        return made.signing(tmp_path, gpg.secret(name))

    @pytest.fixture
    def verifier(self, gpg: Gnupg, tmp_path: Path) -> Verifier:
        for name in made.ALGORITHMS:
            gpg.make(name)
        gpg.make("expired", "ed25519", "seconds=3600", now=time.time() // made.DAY * made.DAY - made.DAY)
        names = dict.fromkeys((self.algorithm, *made.ALGORITHMS, "expired"))
        trust = made.trusting(tmp_path, *(gpg.certificate(name) for name in names))
        return SimpleVerifier(made.CONFIG, trust)

    @pytest.fixture
    async def expired(self, gpg: Gnupg) -> Sample:
        """A key counts until it expires."""
        began = time.time() // made.DAY * made.DAY - made.DAY
        gpg.make("expired", "ed25519", "seconds=3600", now=began)
        content = gpg.sign("expired", made.payload(), now=began + 60)
        return REPOSITORY, IMAGE, write_artifact(IMAGE, content)

    @pytest.fixture
    def without_trust_root(self) -> tuple[Verifier, bool | None]:
        return SimpleVerifier(made.CONFIG, Trust()), False

    @pytest.fixture
    def samples(self, gpg: Gnupg, verifier: Verifier) -> list[Sample]:
        """What GnuPG signs as skopeo asks it to, by every algorithm that policies know."""
        assert isinstance(verifier, SupportsExchange)
        content = made.payload()
        return [(REPOSITORY, IMAGE, verifier.wrap(IMAGE, gpg.sign(name, content))) for name in made.ALGORITHMS]


class TestRsa(TestEd25519):
    algorithm = "rsa3072"
    large = 1 << 22


class TestP521(TestEd25519):
    algorithm = "nistp521"
    large = 1 << 22


class Files(PluginSuite):
    """A driver that reads its keys from files."""

    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def configs(self, gpg: Gnupg, tmp_path: Path) -> tuple[SigningConfig, SigningConfig]:
        gpg.make("ed25519")
        gpg.make("sealed", "ed25519", password="seal")
        contents = {
            "secret": gpg.secret("ed25519"),
            "sealed": gpg.secret("sealed", "--armor", password="seal"),
            "certificate": gpg.certificate("ed25519"),
            "both": gpg.certificate("ed25519") + gpg.certificate("sealed"),
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        path = {name: str(tmp_path / name) for name in contents}
        one = SigningConfig(
            simple=SimpleConfig(
                signing_keys=(SimpleSigningKey(key_id="release", key_path=path["secret"]),),
                verification_keys=(SimpleVerificationKey(key_id="release", key_path=path["certificate"]),),
            )
        )
        two = SigningConfig(
            # What is there for other formats is not even opened.
            signing_keys=(SigningKey(key_id="other", key_path="none"),),
            registry_name=made.REGISTRY,
            simple=SimpleConfig(
                signing_keys=(
                    SimpleSigningKey(key_id="release", key_path=path["sealed"], password=Secret("seal")),
                    SimpleSigningKey(key_id="plain", key_path=path["secret"]),
                ),
                verification_keys=(SimpleVerificationKey(key_id="both", key_path=path["both"], trusted=False),),
                identity="ignore",
                remap=(Remap(prefix="registry.example/a", signed_prefix="other.example"),),
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
            assert signer.files
            assert signer.keys()

        return use


class TestVerifierPlugin(Files):
    @pytest.fixture
    def driver(self) -> Driver[Verifier]:
        (driver,) = plugin.drift_verifiers()
        return driver

    @pytest.fixture
    def use(self, gpg: Gnupg) -> Use:
        content = gpg.sign("ed25519", made.payload())

        async def use(verifier: Verifier) -> None:
            assert isinstance(verifier, SupportsExchange)
            signature = verifier.wrap(IMAGE, content)
            (judgement,) = await verifier.judge(REPOSITORY, IMAGE, signature)
            assert judgement.good == bool(verifier.keys())
            assert list(verifier.unwrap(signature)) == [content]
            assert json.loads(signature.manifest)["subject"]["digest"] == IMAGE.digest
            assert verifier.files

        return use
