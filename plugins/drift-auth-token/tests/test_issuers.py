"""Tokens of other issuers: whom they name, and what an issuer that is slow, gone or hostile can do."""

import asyncio
import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from drift_auth_token import issuers
from drift_auth_token.authenticator import TokenAuthenticator
from drift_auth_token.config import IssuerConfig, TokenConfig
from drift_auth_token.identity import TokenIdentity
from drift_auth_token.keys import to_jwk

from drift_core.api import DriftError, Scope, Unauthorized, Unavailable

from .conftest import Issuer, Opening, bearer, claims

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


async def answer(opening: Opening, provider: Issuer, token: str, **others: Any) -> TokenIdentity | None:
    async with opening(issuers=(IssuerConfig(**provider.config(**others)),)) as opened:
        return await opened.authenticate(bearer(token))


async def test_the_name_is_that_of_the_issuer(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    token = provider.token(groups=["dev", 1, "ops"], preferred_username="Bob", roles=["admin"])
    found = await answer(opening, provider, token)
    assert found is not None
    assert (found.name, found.source) == ("127.0.0.1:bob", provider.url)
    assert (found.groups, found.roles, found.scopes) == (frozenset(), frozenset(), None)
    assert found.delegated


async def test_claims_and_limits_are_as_configured(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    token = provider.token(groups=["dev", 1, "ops"], preferred_username="Bob")
    found = await answer(
        opening,
        provider,
        token,
        username_claim="preferred_username",
        groups_claim="groups",
        name_prefix="ci/",
        scopes=("repository:team/*:pull",),
    )
    assert found is not None
    assert (found.name, found.groups) == ("ci/Bob", {"dev", "ops"})
    assert found.scopes == {Scope("repository", "team/*", "pull")}


@pytest.mark.parametrize("name", ["", "robot$ci", 7, None, ["bob"], "a\nb", "a" * 256])
async def test_a_name_that_is_none(opening: Opening, provider: Issuer, name: Any) -> None:
    provider.add_key()
    with pytest.raises(Unauthorized):
        await answer(opening, provider, provider.token(nick=name), username_claim="nick", name_prefix="")


async def test_the_keys_are_found_by_discovery(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    found = await answer(opening, provider, provider.token(), jwks_url=None)
    assert found is not None
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("issuer", "keys"),
    [
        (None, "http://127.0.0.1:1/keys"),
        (None, "http://localhost/keys"),
        (None, "http://169.254.169.254/latest/meta-data"),
        (None, "file:///etc/passwd"),
        (None, "https://else.example/keys"),
        (None, "https://["),
        (None, "https://else.example:port/keys"),
        ("https://else.example", None),
    ],
)
async def test_discovery_leads_nowhere_else(
    opening: Opening, provider: Issuer, issuer: str | None, keys: str | None
) -> None:
    provider.add_key()
    document = {"issuer": issuer or provider.url, "jwks_uri": keys or f"{provider.url}/keys"}
    provider.documents["/.well-known/openid-configuration"] = json.dumps(document).encode()
    with pytest.raises(Unavailable):
        await answer(opening, provider, provider.token(), jwks_url=None)
    assert provider.asked == ["/.well-known/openid-configuration"]


async def test_discovery_leads_to_no_other_server(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    other = Issuer()
    try:
        other.keys = provider.keys
        document = {"issuer": provider.url, "jwks_uri": f"{other.url}/keys"}
        provider.documents["/.well-known/openid-configuration"] = json.dumps(document).encode()
        with pytest.raises(Unavailable):
            await answer(opening, provider, provider.token(), jwks_url=None)
        assert other.asked == []
        # Who configures it has said that it is meant.
        assert await answer(opening, provider, provider.token(), jwks_url=f"{other.url}/keys") is not None
    finally:
        other.close()


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"[]", b"{}", b"null", b'{"keys":{}}', b'{"keys":[1]}', b"[" * 100_000, b"\xff"),
        b'{"keys":[' + b" " * (512 << 10) + b"]}",
    ],
    ids=["empty", "list", "object", "null", "keys", "number", "nested", "bytes", "large"],
)
async def test_an_answer_that_is_no_key_set(opening: Opening, provider: Issuer, document: bytes) -> None:
    provider.add_key()
    provider.documents["/keys"] = document
    with pytest.raises(Unavailable):
        await answer(opening, provider, provider.token())


async def test_a_key_that_is_damaged_spoils_no_other(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    good = provider.keys[0]
    provider.keys = [
        {"kty": "EC", "crv": "P-256", "kid": "a", "x": "!", "y": ""},
        {"kty": "new", "kid": "b"},
        {"kid": "c"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "d"},
        good,
    ]
    assert await answer(opening, provider, provider.token()) is not None


async def test_a_weak_or_symmetric_key_is_not_taken(opening: Opening, provider: Issuer, small_rsa: Any) -> None:
    strong = rsa.generate_private_key(65537, 2048)
    weak = to_jwk(small_rsa.public_key(), "RS256") | {"kid": "weak"}
    provider.keys = [
        weak,
        to_jwk(strong.public_key(), "RS256") | {"kid": "strong"},
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "shared"},
        to_jwk(strong.public_key(), "RS256") | {"kid": "other", "use": "enc"},
    ]
    assert await answer(opening, provider, provider.token({"kid": "strong"}, strong, "RS256")) is not None
    for kid in ("other", "weak"):
        with pytest.raises(Unauthorized, match="unknown key"):
            await answer(opening, provider, provider.token({"kid": kid}, strong, "RS256"))
    forged = jwt.encode(
        claims(iss=provider.url, aud="registry"), b"secretsecretsecretsecretsecret!!", "HS256", {"kid": "shared"}
    )
    with pytest.raises(Unauthorized, match="not allowed"):
        await answer(opening, provider, forged)


@pytest.mark.parametrize("claim", ["exp", "sub", "aud"])
async def test_a_claim_that_has_to_be_there(opening: Opening, provider: Issuer, claim: str) -> None:
    provider.add_key()
    with pytest.raises(Unauthorized, match="lacks a claim"):
        await answer(opening, provider, provider.token(**{claim: None}))


async def test_only_the_configured_algorithms(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    with pytest.raises(Unauthorized, match="not allowed"):
        await answer(opening, provider, provider.token(), algorithms=("RS256",))


async def test_a_key_is_for_the_algorithm_that_it_names(opening: Opening, provider: Issuer) -> None:
    strong = rsa.generate_private_key(65537, 2048)
    provider.keys = [to_jwk(strong.public_key(), "RS256") | {"kid": "a", "alg": "PS256"}]
    allowed = ("RS256", "PS256")
    with pytest.raises(Unauthorized, match="unknown key"):
        await answer(opening, provider, provider.token({"kid": "a"}, strong, "RS256"), algorithms=allowed)
    assert await answer(opening, provider, provider.token({"kid": "a"}, strong, "PS256"), algorithms=allowed)


async def test_unknown_keys_are_no_burden_for_the_issuer(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    async with opening(issuers=(IssuerConfig(**provider.config()),)) as opened:
        await opened.authenticate(bearer(provider.token()))
        for number in range(100):
            with pytest.raises(Unauthorized, match="unknown key"):
                await opened.authenticate(bearer(provider.token({"kid": f"guess-{number}"})))
        assert len(provider.asked) <= issuers.BURST
        assert await opened.authenticate(bearer(provider.token())) is not None


async def test_many_who_need_the_keys_ask_for_them_once(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    provider.delay = 0.2
    async with opening(issuers=(IssuerConfig(**provider.config()),)) as opened:
        tokens = [provider.token(jti=str(number)) for number in range(50)]
        first = asyncio.create_task(opened.authenticate(bearer(tokens[0])))
        await asyncio.sleep(0.05)
        others = asyncio.gather(*(opened.authenticate(bearer(token)) for token in tokens))
        # Who leaves takes nothing from the others.
        first.cancel()
        assert all(await others)
    assert provider.asked == ["/keys"]


async def test_a_slow_issuer_is_given_up(opening: Opening, provider: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.3)
    provider.add_key()
    # The second answers all the time, but never to the end.
    for provider.delay, provider.drip in ((2.0, 0.0), (0.0, 0.1)):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await answer(opening, provider, provider.token())
        assert time.monotonic() - began < 1.5


async def test_keys_are_fetched_again_beside_the_requests(
    opening: Opening, provider: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.add_key()
    async with opening(issuers=(IssuerConfig(**provider.config()),)) as opened:
        await opened.authenticate(bearer(provider.token()))
        withdrawn, provider.keys = provider.token(jti="2"), []
        monkeypatch.setattr(issuers, "FRESH_SECONDS", 0.0)
        provider.delay = 0.3
        began = time.monotonic()
        assert await opened.authenticate(bearer(withdrawn)) is not None
        assert time.monotonic() - began < 0.25
        await asyncio.sleep(0.6)
        with pytest.raises(Unauthorized, match="unknown key"):
            await opened.authenticate(bearer(provider.token(jti="3")))


async def test_known_keys_count_for_a_stated_time_while_the_issuer_is_gone(
    opening: Opening, provider: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.add_key()
    async with opening(issuers=(IssuerConfig(**provider.config()),)) as opened:
        await opened.authenticate(bearer(provider.token()))
        provider.close()
        assert await opened.authenticate(bearer(provider.token(jti="2"))) is not None
        monkeypatch.setattr(issuers, "KEPT_SECONDS", 0.0)
        with pytest.raises(Unavailable, match="cannot be fetched"):
            await opened.authenticate(bearer(provider.token(jti="3")))


async def test_a_redirect_is_not_followed(opening: Opening, provider: Issuer) -> None:
    provider.add_key()
    asked: list[str] = []

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("location", f"{provider.url}/keys")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with pytest.raises(Unavailable):
            await answer(
                opening, provider, provider.token(), jwks_url=f"http://127.0.0.1:{server.server_address[1]}/elsewhere"
            )
    finally:
        server.shutdown()
        server.server_close()
    assert (asked, provider.asked) == (["/elsewhere"], [])


async def test_tls_is_verified(opening: Opening, provider: Issuer, tmp_path: Path) -> None:
    provider.add_key()
    certificate = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    assert provider._server is not None
    provider._server.socket = context.wrap_socket(provider._server.socket, server_side=True)
    url = f"https{provider.url.removeprefix('http')}/keys"
    with pytest.raises(Unavailable):
        await answer(opening, provider, provider.token(), jwks_url=url)
    assert await answer(opening, provider, provider.token(), jwks_url=url, ca_file=str(certificate)) is not None


async def test_an_authority_that_is_none(opening: Opening, provider: Issuer, tmp_path: Path) -> None:
    for content in (None, b"nothing"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(DriftError, match=str(file)):
            await answer(opening, provider, "", ca_file=str(file))


@pytest.mark.parametrize(
    "config",
    [
        {"issuer": "http://ci.example", "audience": "drift"},
        {"issuer": "ci.example", "audience": "drift"},
        {"issuer": "https://ci.example", "audience": "drift", "jwks_url": "http://ci.example/keys"},
        {"issuer": "https://ci.example", "audience": "drift", "jwks_url": "file:///etc/passwd"},
        {"issuer": "https://ci.example", "audience": ""},
        {"issuer": "https://ci.example", "audience": "drift", "algorithms": ["HS256"]},
        {"issuer": "https://ci.example", "audience": "drift", "algorithms": ["none"]},
        {"issuer": "https://ci.example", "audience": "drift", "algorithms": []},
        {"issuer": "https://ci.example", "audience": "drift", "scopes": ["everything"]},
        {"issuer": "drift", "audience": "drift", "jwks_url": "https://ci.example/keys"},
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"issuers": [config]}, TokenConfig)


async def test_an_issuer_that_is_not_configured_is_not_asked(opened: TokenAuthenticator, provider: Issuer) -> None:
    provider.add_key()
    assert await opened.authenticate(bearer(provider.token())) is None
    assert provider.asked == []


def self_signed(folder: Path) -> Path:
    """Writes a certificate for this machine, and its key, and returns the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / "issuer.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return file
