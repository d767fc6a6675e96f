"""The kit's rules of authenticators and of plugins."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography.x509 import UniformResourceIdentifier
from drift_auth_certificate import plugin
from drift_auth_certificate.authenticator import open_certificate
from drift_auth_certificate.config import CertificateConfig, Rule

from drift_core.api import Authenticator, Credentials, Services
from drift_core.conformance import AuthenticatorSuite, ModuleSuite
from drift_core.conformance.suites.plugin import Use

Shown = Callable[[str], Credentials]
MALFORMED = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class TestCertificate(AuthenticatorSuite):
    @pytest.fixture
    async def authenticator(self, with_authorities: Services) -> AsyncIterator[Authenticator]:
        async with open_certificate(CertificateConfig(), with_authorities) as certificate:
            yield certificate

    @pytest.fixture
    def good(self, authority: Any, shown: Shown) -> tuple[Credentials, str]:
        return shown(authority.sign(("CN", "ann"))[0]), "cert:ann"

    @pytest.fixture
    def bad(self, authority: Any, shown: Shown) -> list[Credentials]:
        nobody, two = authority.sign(("O", "acme"))[0], authority.sign(("CN", "ann"), ("CN", "ben"))[0]
        return [shown(nobody), shown(two), shown(MALFORMED), shown("")]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return Credentials("Basic YTpi", (("authorization", "Basic YTpi"),), "192.0.2.1")

    @pytest.fixture
    def expired(self, authority: Any, shown: Shown) -> Credentials:
        return shown(authority.sign(("CN", "ann"), ends=authority.past)[0])

    @pytest.fixture
    def not_yet_valid(self, authority: Any, shown: Shown) -> Credentials:
        return shown(authority.sign(("CN", "ann"), begins=authority.future)[0])


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def services(self, with_authorities: Services) -> Services:
        return with_authorities

    @pytest.fixture
    def configs(self) -> tuple[CertificateConfig, CertificateConfig]:
        rules = (Rule(match="spiffe://acme/ci/*", name="ci", groups=("robots",), roles=("developer",)), Rule(match="*"))
        full = CertificateConfig(name_from="san.uri", groups_from=("subject.OU",), rules=rules, unmapped="next")
        return CertificateConfig(), full

    @pytest.fixture
    def use(self, authority: Any, shown: Shown) -> Use:
        names = [UniformResourceIdentifier("spiffe://acme/ci/build")]
        certificate = authority.sign(("CN", "ann"), names=names)[0]

        async def log_in(authenticator: Authenticator) -> None:
            assert await authenticator.authenticate(shown(certificate)) is not None

        return log_in
