"""Forged tokens: each is good but for one thing, which must be enough (RFC 8725)."""

import hmac
import itertools
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_auth_token.authenticator import TokenAuthenticator
from drift_auth_token.config import IssuerConfig
from drift_auth_token.keys import to_jwk

from drift_core.api import Identity, Scope, Unauthorized

from .conftest import Forger, Issuer, Opening, bearer, claims, encoded

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


def by_hmac(key: bytes, header: dict[str, Any], content: dict[str, Any]) -> str:
    message = f"{encoded(header)}.{encoded(content)}"
    return f"{message}.{encoded(hmac.digest(key, message.encode(), 'sha256'))}"


def by_key(key: Any, header: dict[str, Any], content: dict[str, Any]) -> str:
    """Signs by ES256 whatever the header says, as a library with a mind of its own would not."""
    message = f"{encoded(header)}.{encoded(content)}"
    r, s = decode_dss_signature(key.sign(message.encode(), ec.ECDSA(SHA256())))
    return f"{message}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


async def refused(authenticator: TokenAuthenticator, token: str) -> str:
    with pytest.raises(Unauthorized) as refusal:
        await authenticator.authenticate(bearer(token))
    return refusal.value.message


async def test_what_is_forged_here_is_good_without_the_forgery(opened: TokenAuthenticator, forger: Forger) -> None:
    identity = await opened.authenticate(bearer(await forger.signed()))
    assert identity is not None
    assert (identity.name, identity.source, identity.scopes) == ("alice", "basic", None)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_without_an_algorithm(opened: TokenAuthenticator, forger: Forger, algorithm: str) -> None:
    signature = (await forger.signed()).rpartition(".")[2]
    header = encoded({"alg": algorithm, "kid": (await forger.key()).kid})
    for ending in ("", signature):
        await refused(opened, f"{header}.{encoded(claims())}.{ending}")


@pytest.mark.parametrize("form", ["pem", "der", "jwk", "point"])
async def test_the_public_key_is_no_shared_secret(opened: TokenAuthenticator, forger: Forger, form: str) -> None:
    key = await forger.key()
    public = key.public
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(key.jwk).encode(),
        "point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
    }[form]
    reason = await refused(opened, by_hmac(secret, {"alg": "HS256", "kid": key.kid}, claims()))
    assert reason == "the token is signed by another algorithm than its key is for"


async def test_a_shared_secret_verifies_nothing_else(opening: Opening) -> None:
    secret = "one that is long enough to be taken"
    async with opening(algorithm="HS256", jwt_secret=secret) as shared:
        good = by_hmac(secret.encode(), {"alg": "HS256", "kid": "shared"}, claims())
        assert await shared.authenticate(bearer(good)) is not None
        for other in ("HS384", "ES256", "none"):
            await refused(shared, by_hmac(secret.encode(), {"alg": other, "kid": "shared"}, claims()))
        await refused(shared, by_hmac(b"change-me-in-production", {"alg": "HS256", "kid": "shared"}, claims()))
        assert await shared.service.published() == []


@pytest.mark.parametrize("kid", [None, "", "shared", "../../../../dev/null", "' OR '1'='1", "0" * 4000])
async def test_an_unknown_kid(opened: TokenAuthenticator, forger: Forger, kid: str | None) -> None:
    header = {"alg": "ES256"} | ({} if kid is None else {"kid": kid})
    forged = by_key((await forger.key()).private, header, claims())
    assert await refused(opened, forged) == "the token is signed by an unknown key"


async def test_keys_that_a_token_brings_along_are_not_looked_at(
    opened: TokenAuthenticator, forger: Forger, provider: Issuer
) -> None:
    provider.add_key()
    own = to_jwk(provider.private.public_key(), "ES256")
    kid = (await forger.key()).kid
    for header in (
        {"jwk": own},
        {"jku": f"{provider.url}/keys"},
        {"x5u": f"{provider.url}/keys"},
        {"x5c": ["MIIB"]},
        {"jwk": own, "jku": f"{provider.url}/keys", "kid": provider.kid},
    ):
        forged = jwt.encode(claims(), provider.private, "ES256", headers={"kid": kid} | header)
        await refused(opened, forged)
    assert provider.asked == []


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"crit": None}, {"b64": False}, {"b64": True}])
async def test_an_extension_that_is_not_understood(
    opened: TokenAuthenticator, forger: Forger, header: dict[str, Any]
) -> None:
    key = await forger.key()
    forged = by_key(key.private, {"alg": "ES256", "kid": key.kid} | header, claims())
    assert await refused(opened, forged) == "the token needs an extension that is not understood"


async def test_a_token_of_ten_megabytes_is_not_read(opened: TokenAuthenticator) -> None:
    token = f"{encoded({'alg': 'ES256'})}.{'A' * (10 << 20)}.AAAA"
    credentials, spent = bearer(token), []
    for _ in range(5):
        began = time.process_time()
        with pytest.raises(Unauthorized, match="longer"):
            await opened.authenticate(credentials)
        spent.append(time.process_time() - began)
    # To decode it, or to hash it, takes more than ten milliseconds.
    assert min(spent) < 0.002


async def test_a_token_just_beyond_the_limit(opened: TokenAuthenticator, forger: Forger) -> None:
    assert "longer" in await refused(opened, await forger.signed(padding="A" * (16 << 10)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("exp", value) for value in (None, 0, -1, int(time.time()) - 1, "soon", [], {}, "9" * 5000)),
        *(("nbf", value) for value in (int(time.time()) + 3600, "now", [])),
        *(("aud", value) for value in (None, "", "another", "drift2", ["another"], [], {}, 1)),
        *(("sub", value) for value in (None, 1, ["alice"])),
        *(("use", value) for value in (None, "", "admin", 1)),
        *(("scopes", value) for value in ("repository:*:*", ["nonsense"], [1])),
        *(("groups", value) for value in ("admins", [1])),
        ("sid", "0123456789abcdef"),
        ("sid", 1),
    ],
    # Not the time of day, by which two processes that share the tests would not know each other's.
    ids=itertools.count(),
)
async def test_a_claim_that_is_missing_or_wrong(
    opened: TokenAuthenticator, forger: Forger, name: str, value: Any
) -> None:
    key = await forger.key()
    assert await opened.authenticate(bearer(by_key(key.private, {"alg": "ES256", "kid": key.kid}, claims())))
    await refused(opened, by_key(key.private, {"alg": "ES256", "kid": key.kid}, claims(**{name: value})))


@pytest.mark.parametrize("value", ["everything", {"type": "registry"}, [{"type": "registry"}], [["*"]]])
async def test_access_of_another_form_is_refused(opened: TokenAuthenticator, forger: Forger, value: Any) -> None:
    await refused(opened, await forger.signed(use="access", access=value))


async def test_a_token_without_access_is_for_nothing(opened: TokenAuthenticator, forger: Forger) -> None:
    identity = await opened.authenticate(bearer(await forger.signed(use="access", access=None)))
    assert identity is not None
    assert identity.scopes == frozenset()


async def test_another_issuer(opened: TokenAuthenticator, forger: Forger) -> None:
    await refused(opened, await forger.signed(iss=None))
    for issuer in ("Drift", "drift ", "https://else.example"):
        assert await opened.authenticate(bearer(await forger.signed(iss=issuer))) is None


async def test_who_signs_for_one_issuer_signs_for_no_other(opening: Opening, provider: Issuer) -> None:
    other = Issuer()
    try:
        provider.add_key()
        other.add_key()
        trusted = tuple(IssuerConfig(**one.config()) for one in (provider, other))
        async with opening(issuers=trusted) as opened:
            assert await opened.authenticate(bearer(provider.token())) is not None
            for name in ("drift", other.url):
                assert await refused(opened, provider.token(iss=name)) == "the token is signed by an unknown key"
    finally:
        other.close()


@pytest.mark.parametrize(
    "signature", [bytes(64), b"", bytes(63), bytes(65), b"\xff" * 64, b"0\x06\x02\x01\x00\x02\x01\x00"]
)
async def test_a_signature_of_nothing(opened: TokenAuthenticator, forger: Forger, signature: bytes) -> None:
    message = (await forger.signed()).rpartition(".")[0]
    await refused(opened, f"{message}.{encoded(signature)}")


async def test_every_changed_character_is_noticed(opened: TokenAuthenticator, forger: Forger) -> None:
    token = await forger.signed()
    for place in range(0, len(token), 7):
        changed = "A" if token[place] != "A" else "Q"
        forged = f"{token[:place]}{changed}{token[place + 1 :]}"
        try:
            identity = await opened.authenticate(bearer(forged))
        except Unauthorized:
            continue
        # The issuer's name was changed: somebody else may know it.
        assert identity is None


async def test_what_was_refused_is_not_remembered_as_good(opened: TokenAuthenticator, forger: Forger) -> None:
    good = await forger.signed()
    forged = f"{good.rpartition('.')[0]}.{encoded(bytes(64))}"
    for _ in range(3):
        await refused(opened, forged)
        assert await opened.authenticate(bearer(good)) is not None


async def test_a_remembered_token_ends_when_it_expires(opened: TokenAuthenticator, forger: Forger) -> None:
    token = await forger.signed(exp=int(time.time()) + 2)
    assert await opened.authenticate(bearer(token)) is not None
    time.sleep(2.1)  # noqa: ASYNC251 - the clock has to go on, nothing else
    assert await refused(opened, token) == "the token has expired"


async def test_a_login_with_a_limit_keeps_it(opened: TokenAuthenticator) -> None:
    limit = frozenset({Scope("repository", "team/app", "pull")})
    _, issued, refresh = await opened.service.login(Identity("alice", "basic", scopes=limit))
    renewed = (await opened.service.renew(refresh))[1]
    for token in (issued.token, renewed.token):
        identity = await opened.authenticate(bearer(token))
        assert identity is not None
        assert identity.scopes == limit
