"""A real server with TLS, which asks clients for a certificate."""

import ssl
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.x509 import IPAddress, UniformResourceIdentifier

from tests.server import Server

Ask = Callable[..., httpx.Response]
RULES = '[{match="spiffe://acme/ci/*", groups=["robots"]}, {match="spiffe://acme/ann", name="ann"}]'
BASIC = 'auth.basic.users=["ben:correct horse"]'


@pytest.fixture
def ask(tmp_path: Path, authority: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Asks on a new connection, with a certificate and its key or without."""
    certificate, key = authority.sign(("CN", "registry"), names=[IPAddress(IPv4Address("127.0.0.1"))], server=True)
    (tmp_path / "server.pem").write_text(certificate)
    (tmp_path / "server.key").write_text(key)
    trusted = authority.write(tmp_path / "authority.pem")
    # For the question whether the server is ready.
    monkeypatch.setenv("SSL_CERT_FILE", trusted)
    settings = (
        'auth.chain=["certificate", "basic"]',
        'auth.certificate.name_from="san.uri"',
        f"auth.certificate.rules={RULES}",
        BASIC,
        f"tls.cert_file={tmp_path / 'server.pem'}",
        f"tls.key_file={tmp_path / 'server.key'}",
        f"tls.client_ca_file={trusted}",
    )
    server = Server(tmp_path / "server", *settings, workers=1)
    server.url = server.url.replace("http:", "https:")

    def asked(shows: tuple[str, str] | None = None, path: str = "/v2/", **options: Any) -> httpx.Response:
        context = ssl.create_default_context(cafile=trusted)
        if shows is not None:
            (tmp_path / "client.pem").write_text("".join(shows))
            context.load_cert_chain(tmp_path / "client.pem")
        with httpx.Client(verify=context) as client:
            return client.get(f"{server.url}{path}", **options)

    with server:
        yield asked


def uri(text: str) -> list[UniformResourceIdentifier]:
    return [UniformResourceIdentifier(text)]


def test_who_may_come_in(ask: Ask, authority: Any, another: Any) -> None:
    build = authority.sign(("CN", "build"), names=uri("spiffe://acme/ci/build"))
    assert ask(build).status_code == 200
    assert ask(build, "/v2/team/app/tags/list").status_code == 404
    # Without a certificate one may still log in by a password, and has to.
    assert ask().status_code == 401
    assert ask(auth=("ben", "correct horse")).status_code == 200
    # One that is nobody's is refused, whatever else is said.
    nobody = authority.sign(("CN", "build"), names=uri("spiffe://acme/other"))
    for options in ({}, {"auth": ("ben", "correct horse")}):
        refused = ask(nobody, **options)
        assert refused.status_code == 401
        assert refused.json()["errors"][0]["message"] == "the certificate is nobody's"
    # What other authorities have signed does not get through the handshake, nor does what has expired.
    for bad in (
        another.sign(("CN", "build"), names=uri("spiffe://acme/ci/build")),
        authority.sign(("CN", "build"), names=uri("spiffe://acme/ci/build"), ends=authority.past),
        authority.sign(("CN", "build"), names=uri("spiffe://acme/ci/build"), server=True),
    ):
        with pytest.raises(httpx.TransportError):
            ask(bad)


def test_a_header_does_not_make_a_certificate(ask: Ask, authority: Any) -> None:
    certificate = authority.sign(("CN", "build"), names=uri("spiffe://acme/ci/build"))[0].strip().replace("\n", " ")
    for name in ("x-client-cert", "x-ssl-cert", "x-forwarded-client-cert", "client-cert"):
        assert ask(headers={name: certificate}).status_code == 401
