"""The keys of an issuer: rotated, unknown, out of reach; and tokens as attackers make them (RFC 8725)."""

import asyncio
import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_auth_oidc.fetching import Fetcher, open_fetcher
from drift_auth_oidc.issuer import UNKNOWN_BURST, UNKNOWN_SECONDS, Issuer
from drift_auth_oidc.opening import Counters
from prometheus_client import CollectorRegistry

from drift_core.api import Unauthorized, Unavailable
from drift_core.conformance import services


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with open_fetcher() as fetcher:
        yield fetcher


def made(fetcher: Fetcher, url: str) -> Issuer:
    return Issuer(fetcher, url, services().log, Counters(CollectorRegistry()).fetches)


@pytest.fixture
async def issuer(fetcher: Fetcher, provider: Any) -> AsyncIterator[Issuer]:
    issuer = made(fetcher, provider.issuer)
    yield issuer
    await issuer.close()


def part(document: Any) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


async def refused(issuer: Issuer, token: str) -> str:
    with pytest.raises(Unauthorized) as refusal:
        await issuer.verify(token, "drift")
    assert token not in str(refusal.value)
    return refusal.value.message


async def test_keys_are_fetched_once_and_only_when_needed(issuer: Issuer, provider: Any) -> None:
    before = provider.asked()
    tokens = [provider.sign() for _ in range(5)]
    assert provider.asked() == before
    every = await asyncio.gather(*(issuer.verify(token, "drift") for token in tokens * 10))
    assert {claims["sub"] for claims in every} == {"ann"}
    assert provider.asked() == before + 1


async def test_unknown_keys_do_not_make_the_provider_a_target(issuer: Issuer, provider: Any) -> None:
    token = provider.sign()
    await issuer.verify(token, "drift")
    before, began = provider.asked(), time.monotonic()
    for number in range(50):
        await refused(issuer, provider.sign(header={"kid": f"guess-{number}"}))
    # A busy machine may take so long for the guesses that some more are allowed.
    assert provider.asked() - before <= UNKNOWN_BURST + (time.monotonic() - began) / UNKNOWN_SECONDS
    await issuer.verify(token, "drift")


async def test_a_public_key_is_no_shared_secret(issuer: Issuer, provider: Any) -> None:
    """The attack on those who let the token say what kind of key it needs."""
    async with httpx.AsyncClient() as client:
        (jwk, *_) = (await client.get(f"{provider.issuer}/jwks")).json()["keys"]
    pem = jwt.PyJWK(jwk).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": "drift", "sub": "admin", "iat": now, "exp": now + 600}
    for algorithm in ("HS256", "HS384", "HS512"):
        message = f"{part({'alg': algorithm, 'kid': jwk['kid']})}.{part(claims)}"
        signature = hmac.digest(pem, message.encode(), f"sha{algorithm[2:]}")
        token = f"{message}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        assert await refused(issuer, token) == "the token is not signed by a private key"


async def test_where_a_token_says_its_key_lies_nobody_looks(issuer: Issuer, provider: Any) -> None:
    for header in ({"jku": f"{provider.issuer}/jwks"}, {"x5u": "http://127.0.0.1:1/"}, {"jwk": {"kty": "RSA"}}):
        await refused(issuer, provider.sign(kind="foreign", header=header))
        await issuer.verify(provider.sign(header=header), "drift")


async def test_another_algorithm_than_the_key_s_is_refused(issuer: Issuer, provider: Any) -> None:
    header, payload, signature = provider.sign().split(".")
    del header
    for algorithm in ("RS512", "PS256", "ES256", "EdDSA", "none", "None", "", "rs256"):
        await refused(issuer, f"{part({'alg': algorithm, 'kid': '1'})}.{payload}.{signature}")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": 7},
        {"aud": None},
        {"aud": []},
        {"aud": ["drift", "other"]},
        {"aud": ["drift", "other"], "azp": "other"},
        {"azp": "other"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": "soon"},
        {"exp": 1},
        {"nbf": 1 << 33},
        {"iat": 1 << 33},
    ],
)
async def test_claims_that_are_wrong(issuer: Issuer, provider: Any, claims: dict[str, Any]) -> None:
    await refused(issuer, provider.sign(**claims))


async def test_clocks_may_differ_by_the_skew(issuer: Issuer, provider: Any) -> None:
    now = int(time.time())
    await issuer.verify(provider.sign(exp=now - 50, iat=now - 600), "drift")
    await refused(issuer, provider.sign(exp=now - 61, iat=now - 600))
    await issuer.verify(provider.sign(aud=["drift", "other"], azp="drift"), "drift")


async def test_a_token_of_10_mb_costs_nothing(issuer: Issuer, provider: Any) -> None:
    began = time.process_time()
    assert await refused(issuer, f"{provider.sign()}{'A' * 10_000_000}") == "the token is too long"
    assert time.process_time() - began < 0.5


class Wrong(ThreadingHTTPServer):
    """Answers as no provider should."""

    daemon_threads = True
    document: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - each test sets its own
    status = 200
    length = 0
    seconds = 0.0


class WrongAnswer(BaseHTTPRequestHandler):
    server: Wrong

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name in the base class
        pass

    def do_GET(self) -> None:
        time.sleep(self.server.seconds)
        body = b" " * self.server.length + json.dumps(self.server.document).encode()
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True


@pytest.fixture
def wrong() -> Iterator[Wrong]:
    server = Wrong(("127.0.0.1", 0), WrongAnswer)
    server.headers = {"content-type": "application/json"}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def discovery(url: str, **more: Any) -> dict[str, Any]:
    return {"issuer": url, "jwks_uri": f"{url}/jwks", "keys": [], **more}


async def unavailable(fetcher: Fetcher, server: Wrong) -> str:
    issuer = made(fetcher, f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(Unavailable) as failure:
        await issuer.metadata()
    return failure.value.message


async def test_a_provider_that_answers_well_is_taken(fetcher: Fetcher, wrong: Wrong) -> None:
    """Else the tests below could pass for another reason."""
    url = f"http://127.0.0.1:{wrong.server_port}"
    wrong.document = discovery(url)
    assert (await made(fetcher, url).metadata()).issuer == url


async def test_another_issuer_than_was_asked_is_refused(fetcher: Fetcher, wrong: Wrong) -> None:
    wrong.document = discovery(f"http://127.0.0.1:{wrong.server_port}") | {"issuer": "https://login.example.org"}
    assert "says that its issuer is" in await unavailable(fetcher, wrong)


@pytest.mark.parametrize("url", ["http://keys.example.org/jwks", "file:///etc/passwd", "keys", "https://u:p@h/"])
async def test_keys_are_fetched_over_https_only(fetcher: Fetcher, wrong: Wrong, url: str) -> None:
    wrong.document = discovery(f"http://127.0.0.1:{wrong.server_port}", jwks_uri=url)
    assert "cannot be used" in await unavailable(fetcher, wrong)


async def test_a_redirect_is_not_followed(fetcher: Fetcher, wrong: Wrong, provider: Any) -> None:
    wrong.status, wrong.headers = 302, {"location": f"{provider.issuer}/.well-known/openid-configuration"}
    assert "no usable answer" in await unavailable(fetcher, wrong)


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
async def test_a_large_answer_is_cut(fetcher: Fetcher, wrong: Wrong, headers: dict[str, str]) -> None:
    wrong.document, wrong.headers = discovery(f"http://127.0.0.1:{wrong.server_port}"), headers
    wrong.length = 0 if headers else 1 << 20
    assert "no usable answer" in await unavailable(fetcher, wrong)


async def test_a_slow_answer_is_not_awaited(fetcher: Fetcher, wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_auth_oidc.fetching.SECONDS", 0.2)
    wrong.document, wrong.seconds = discovery(f"http://127.0.0.1:{wrong.server_port}"), 1.0
    assert "cannot be reached" in await unavailable(fetcher, wrong)


@pytest.mark.parametrize("document", [None, [], "x", 7, {}, {"issuer": 1}, {"keys": {}}])
async def test_what_is_no_discovery_document_is_refused(fetcher: Fetcher, wrong: Wrong, document: Any) -> None:
    wrong.document = document
    await unavailable(fetcher, wrong)


async def test_keys_that_cannot_verify_are_left_out(fetcher: Fetcher, wrong: Wrong) -> None:
    url = f"http://127.0.0.1:{wrong.server_port}"
    secret = urlsafe_b64encode(b"k" * 32).rstrip(b"=").decode()
    keys = [{"kty": "oct", "k": secret, "kid": "1", "alg": "HS256"}, {"kty": "RSA"}, {}, 7, {"kty": "EC", "crv": "x"}]
    wrong.document = discovery(url, keys=keys)
    now = int(time.time())
    token = jwt.encode(
        {"iss": url, "aud": "drift", "sub": "a", "iat": now, "exp": now + 60}, "k" * 32, "HS256", {"kid": "1"}
    )
    await refused(made(fetcher, url), token)
