"""Whose a certificate is: by an attribute, or by rules."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.x509 import DNSName, RFC822Name, UniformResourceIdentifier
from drift_auth_certificate import authenticator
from drift_auth_certificate.authenticator import open_certificate
from drift_auth_certificate.config import CertificateConfig, Rule
from msgspec.structs import replace

from drift_core.api import Config, Credentials, Identity, ServerSettings, Services, StartError, Unauthorized
from drift_core.config import load
from drift_core.conformance import services as lent

Shown = Callable[[str], Credentials]
NAMES = [
    DNSName("build.acme.example"),
    RFC822Name("ann@acme.example"),
    UniformResourceIdentifier("spiffe://acme/ci/build"),
]


def identity(name: str, *groups: str) -> Identity:
    """Whom a certificate names: what is made by it would not end with it."""
    return Identity(name, "certificate", frozenset(groups), delegated=True)


@pytest.fixture
def certificate(authority: Any) -> str:
    subject = (("CN", "ann"), ("O", "acme"), ("OU", "platform"), ("OU", "billing"))
    return str(authority.sign(*subject, names=NAMES)[0])


@pytest.fixture
def owner(certificate: str, with_authorities: Services, shown: Shown) -> Callable[..., Any]:
    """Says whose a certificate is, by this configuration."""

    async def of(shows: str | None = None, **config: Any) -> Identity | None:
        async with open_certificate(CertificateConfig(**config), with_authorities) as opened:
            return await opened.authenticate(shown(shows or certificate))

    return of


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("subject.CN", "cert:ann"),
        ("san.dns", "cert:build.acme.example"),
        ("san.email", "cert:ann@acme.example"),
        ("san.uri", "cert:spiffe://acme/ci/build"),
    ],
)
async def test_an_attribute_is_the_name(attribute: str, name: str, owner: Any) -> None:
    assert await owner(name_from=attribute) == identity(name)


async def test_prefix_and_groups(owner: Any) -> None:
    assert await owner(name_prefix="", groups_from=("subject.O", "subject.OU")) == identity(
        "ann", "acme", "platform", "billing"
    )


async def test_the_first_rule_that_fits_counts(owner: Any, authority: Any) -> None:
    rules = (
        Rule(match="spiffe://acme/ci", name="exactly"),
        Rule(match="spiffe://acme/ci/*", groups=("robots",), roles=("developer",)),
        Rule(match="*/build", name="late"),
    )
    config = {"name_from": "san.uri", "rules": rules, "groups_from": ("subject.O",)}
    build = replace(identity("cert:spiffe://acme/ci/build", "acme", "robots"), roles=frozenset({"developer"}))
    assert await owner(**config) == build

    def with_uris(*uris: str) -> str:
        return str(authority.sign(("CN", "x"), names=[UniformResourceIdentifier(uri) for uri in uris])[0])

    assert await owner(with_uris("spiffe://acme/ci"), **config) == identity("exactly")
    assert await owner(with_uris("spiffe://evil/x/build"), **config) == identity("late")
    # The rule comes first, not the value.
    assert await owner(with_uris("spiffe://evil/x/build", "spiffe://acme/ci"), **config) == identity("exactly")
    for uris in (("xspiffe://acme/ci",), ("spiffe://acme/ciX",), ("spiffe://acmeXci",), ()):
        with pytest.raises(Unauthorized, match="nobody's"):
            await owner(with_uris(*uris), **config)


async def test_what_a_rule_matches_is_no_regular_expression(owner: Any) -> None:
    for match in ("a.n", "an+", "[a]nn", "an?", "ann|x", "An*"):
        with pytest.raises(Unauthorized):
            await owner(rules=(Rule(match=match),))
    assert (await owner(rules=(Rule(match="*n*"),))).name == "cert:ann"


@pytest.mark.parametrize(
    "subject",
    [
        (("CN", "ann"), ("CN", "ben")),
        (("O", "acme"),),
        (("CN", "ann\0.evil"),),
        (("CN", "ann\n"),),
    ],
)
async def test_a_certificate_that_is_nobodys(subject: tuple[tuple[str, str], ...], owner: Any, authority: Any) -> None:
    certificate = authority.sign(*subject)[0]
    with pytest.raises(Unauthorized, match="the certificate is nobody's"):
        await owner(certificate)
    assert await owner(certificate, unmapped="next") is None


@pytest.mark.parametrize("unmapped", ["refuse", "next"])
async def test_a_certificate_is_no_robot(unmapped: str, owner: Any, authority: Any) -> None:
    robot = authority.sign(("CN", "robot$ci"))[0]
    assert (await owner(robot, unmapped=unmapped)).name == "cert:robot$ci"
    rules = (Rule(match="*", name="robot$ci"),)
    for config in ({"name_prefix": ""}, {"rules": rules}, {"name_prefix": "", "rules": (Rule(match="robot*"),)}):
        with pytest.raises(Unauthorized, match="the name of a robot"):
            await owner(robot, unmapped=unmapped, **config)


async def test_a_certificate_expires_while_its_connection_lives(
    certificate: str, with_authorities: Services, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_certificate(CertificateConfig(unmapped="next"), with_authorities) as opened:
        assert await opened.authenticate(shown(certificate)) is not None
        for later in (100_000, -100_000):
            now = time.time() + later
            with monkeypatch.context() as patch:
                patch.setattr(authenticator.time, "time", lambda now=now: now)
                with pytest.raises(Unauthorized, match="not valid at present") as refused:
                    await opened.authenticate(shown(certificate))
            assert refused.value.username == "cert:ann"
        assert await opened.authenticate(shown(certificate)) is not None


async def test_a_header_is_no_certificate(certificate: str, with_authorities: Services) -> None:
    headers = tuple(
        (name, certificate.replace("\n", " "))
        for name in ("x-client-cert", "x-ssl-cert", "ssl-client-cert", "x-forwarded-client-cert", "client-cert")
    )
    async with open_certificate(CertificateConfig(), with_authorities) as opened:
        assert await opened.authenticate(Credentials(None, headers, "127.0.0.1")) is None


async def test_a_certificate_is_read_once_and_memory_is_bounded(
    authority: Any, with_authorities: Services, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "MOST", 3)
    read: list[bytes] = []
    real = authenticator.load_pem_x509_certificate
    monkeypatch.setattr(authenticator, "load_pem_x509_certificate", lambda pem: (read.append(pem), real(pem))[1])
    certificates = [authority.sign(("CN", f"user{number}"))[0] for number in range(5)]
    async with open_certificate(CertificateConfig(), with_authorities) as opened:
        for certificate in (*certificates, *certificates[2:], certificates[0]):
            await opened.authenticate(shown(certificate))
        assert len(opened._known) == 3
    assert read == [one.encode() for one in (*certificates, certificates[0])]


async def test_without_authorities_it_does_not_open() -> None:
    settings = ServerSettings("127.0.0.1:0", 100, 5.0, "cert.pem", "key.pem")
    with pytest.raises(StartError, match=r"set tls\.client_ca_file"):
        async with open_certificate(CertificateConfig(), lent(server=settings)):
            pass


@pytest.mark.parametrize(
    "table",
    [
        {"name_from": "subject.cn"},
        {"unmapped": "allow"},
        {"rules": [{"name": "x"}]},
        {"rules": [{"match": "x", "nam": "y"}]},
        {"rules": [{"match": ""}]},
        {"groups_from": ["subject.CN"]},
    ],
)
def test_mistakes_in_the_configuration(table: dict[str, Any]) -> None:
    config: Config = load({"auth": {"mode": "certificate", "certificate": table}}, {}, ())
    with pytest.raises(StartError, match=r"^auth\.certificate\."):
        config.section("auth.certificate", CertificateConfig, "auth")
