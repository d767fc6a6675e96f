"""The kit's rules of signature formats and of plugins."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from drift_sign_notation import plugin
from drift_sign_notation.config import (
    NotationConfig,
    RevokedConfig,
    SigningConfig,
)
from drift_sign_notation.signer import NotationSigner
from drift_sign_notation.verifier import NotationVerifier, load_verifier
from msgspec.structs import replace

from drift_core.api import Denied, Driver, Secret, Signer, SigningKey, TrustStore, VerificationKey, Verifier
from drift_core.conformance import PluginSuite, SigningSuite
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.signing import IMAGE, REPOSITORY, Sample, sign

from .artifacts import FIXTURES, fixture, fixture_subject
from .authorities import DAY, Certified
from .test_clients_signatures import AT, NAMES

KEY = "release"
VALID = {"begins": datetime.fromtimestamp(AT, UTC) - DAY, "ends": datetime.fromtimestamp(AT, UTC) + 3650 * DAY}
ROOT = Certified.root(**VALID)
OURS, THEIRS = ROOT.signer(**VALID), Certified.root(**VALID).signer(**VALID)


def signer_of(certified: Certified, envelope: str, at: float = AT, lifetime: float | None = None) -> Signer:
    return NotationSigner({KEY: certified.signing_key(KEY)}, envelope, lifetime, lambda: at)


class Rules(SigningSuite):
    """As of the day when the clients' signatures were made."""

    envelope: str

    @pytest.fixture
    def signer(self) -> Signer:
        return signer_of(OURS, self.envelope)

    @pytest.fixture
    def stranger(self) -> Signer:
        return signer_of(THEIRS, self.envelope)

    @pytest.fixture
    def key_id(self) -> str:
        return KEY

    @pytest.fixture
    def trusted(self, tmp_path: Path) -> TrustStore:
        roots = (ROOT.write_chain(tmp_path / "root.pem"), str(FIXTURES / "notation-root.crt"))
        return TrustStore(name="default", root_certificate_paths=roots)

    @pytest.fixture
    def verifier(self, trusted: TrustStore) -> Verifier:
        return load_verifier(SigningConfig(trust_stores=(trusted,)), lambda: AT)

    @pytest.fixture
    async def expired(self) -> Sample:
        (signature,) = await sign(signer_of(OURS, self.envelope, AT - 7200, 3600), KEY)
        return REPOSITORY, IMAGE, signature

    @pytest.fixture
    def samples(self) -> list[Sample]:
        return [(REPOSITORY, fixture_subject(), fixture(name)) for name in NAMES]

    @pytest.fixture
    def without_trust_root(self, trusted: TrustStore, tmp_path: Path) -> tuple[Verifier, bool | None]:
        """Files are read when it opens; what can be gone later is a list of revoked certificates that expires."""
        crl = tmp_path / "expired.crl"
        crl.write_bytes(ROOT.crl(begins=VALID["begins"] - DAY, ends=VALID["begins"]))
        expired = replace(trusted, crl_urls=(crl.as_uri(),))
        return load_verifier(SigningConfig(trust_stores=(expired,)), lambda: AT), False


class TestJws(Rules):
    envelope = "jws"


class TestCose(Rules):
    envelope = "cose"


class PluginRules(PluginSuite):
    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def configs(self, tmp_path: Path) -> tuple[SigningConfig, SigningConfig]:
        root = ROOT.write_chain(tmp_path / "root.pem")
        policy = tmp_path / "trustpolicy.json"
        policy.write_text(
            '{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"signatureVerification":'
            '{"level":"strict"},"trustStores":["ca:default"],"trustedIdentities":["*"]}]}'
        )
        full = SigningConfig(
            signing_keys=(
                SigningKey(
                    key_id=KEY,
                    algorithm="ecdsa-p256-sha256",
                    key_path=OURS.write_key(tmp_path / "key.pem", b"hidden"),
                    certificate_path=OURS.write_chain(tmp_path / "chain.pem"),
                    password=Secret("hidden"),
                ),
            ),
            verification_keys=(VerificationKey(key_id="pinned", public_key_path=root, certificate_path=root),),
            trust_stores=(TrustStore(name="default", root_certificate_paths=(root,)),),
            registry_name="registry.example:5000",
            notation=NotationConfig(
                trust_policy=str(policy),
                revoked=(RevokedConfig(issuer="CN=root,O=acme", serial="0a:1b"),),
                envelope="cose",
                lifetime_hours=24,
            ),
        )
        return full, SigningConfig()


class TestSignerPlugin(PluginRules):
    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_signers()
        return driver

    @pytest.fixture
    def use(self) -> Use:
        async def sign_once(signer: NotationSigner) -> None:
            with suppress(Denied):
                await sign(signer, KEY)

        return sign_once


class TestVerifierPlugin(PluginRules):
    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_verifiers()
        return driver

    @pytest.fixture
    def use(self) -> Use:
        async def verify_once(verifier: NotationVerifier) -> None:
            (judgement,) = await verifier.judge(REPOSITORY, fixture_subject(), fixture(NAMES[0]))
            assert judgement.good is False

        return verify_once
