"""The keys that sign: made once, replaced while tokens are in flight, published, and bound to one algorithm."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import jwt
import msgspec
import pytest
from drift_auth_token import tables
from drift_auth_token.asked import parse
from drift_auth_token.authenticator import TokenAuthenticator
from drift_auth_token.config import TokenConfig
from drift_auth_token.keys import PUBLISHED_SECONDS, Keyring, thumbprint
from sqlalchemy import select, update

from drift_core.api import Identity, Records, Secret, Unauthorized

from .conftest import REVOKED_SECONDS, Opening, bearer

pytestmark = pytest.mark.anyio

ALICE = Identity("alice", "basic", frozenset({"dev"}), frozenset({"writer"}))


async def made_by(authenticator: TokenAuthenticator) -> str:
    issued = await authenticator.service.access(ALICE, parse(["repository:team/app:pull,push"]))
    return issued.token


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def kids(authenticator: TokenAuthenticator) -> list[str]:
    return [key["kid"] for key in await authenticator.service.published()]


async def aged(records: Records, seconds: float) -> None:
    """Makes every key older than it is, as time does."""

    def change(db: Any) -> None:
        db.execute(update(tables.keys).values(created=tables.keys.c.created - seconds))
        tables.bump(db)

    await records.write(change)
    await asyncio.sleep(REVOKED_SECONDS)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_who_has_the_published_keys_verifies_a_token(opening: Opening, algorithm: str) -> None:
    async with opening(algorithm=algorithm) as opened:
        token = await made_by(opened)
        (key,) = await opened.service.published()
    assert key["alg"] == jwt.get_unverified_header(token)["alg"] == algorithm
    assert key["kid"] == kid_of(token) == thumbprint(key)
    assert set(key) <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}, "a private part was published"
    claims = jwt.decode(token, jwt.PyJWK(key), audience="drift", issuer="drift")
    assert claims["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]
    assert (claims["sub"], claims["groups"], claims["roles"]) == ("alice", ["dev"], ["writer"])
    assert claims["exp"] - claims["iat"] == 300


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638 section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst"
        "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n"
        "91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


async def test_of_many_that_start_at_once_one_makes_the_key(opening: Opening, records: Records) -> None:
    async with AsyncExitStack() as stack:
        started = await asyncio.gather(*(stack.enter_async_context(opening()) for _ in range(8)))
        tokens = [await made_by(one) for one in started]
        assert len({kid_of(token) for token in tokens}) == 1
        for one in started:
            assert await one.authenticate(bearer(tokens[0])) is not None
    assert await records.read(lambda db: db.execute(select(tables.keys.c.generation)).scalars().all()) == [1]


async def test_a_key_is_replaced_while_tokens_are_in_flight(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        old = await made_by(one)
        await one.service.keys.rotate()
        deadline = time.monotonic() + PUBLISHED_SECONDS + 2
        while kid_of(new := await made_by(one)) == kid_of(old):
            # Until it is known everywhere, it signs nothing.
            assert await other.authenticate(bearer(new)) is not None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for token in (old, new):
            for worker in (one, other):
                assert await worker.authenticate(bearer(token)) is not None
        assert await kids(other) == [kid_of(new), kid_of(old)]


async def test_a_new_key_signs_only_when_it_is_known_everywhere(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        old = await made_by(one)
        await asyncio.sleep(0.3)
        # A worker that has just looked looks again a quarter of a second later.
        await one.service.grants.note_uses({"0": 0.0})
        await other.authenticate(bearer(old))
        await one.service.keys.rotate()
        assert await other.authenticate(bearer(await made_by(one))) is not None


async def test_a_key_that_leaked_is_forgotten_everywhere(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        old = await made_by(one)
        assert await other.authenticate(bearer(old)) is not None
        await one.service.keys.rotate(forget=True)
        await asyncio.sleep(REVOKED_SECONDS)
        for worker in (one, other):
            with pytest.raises(Unauthorized, match="unknown key"):
                await worker.authenticate(bearer(old))
            assert kid_of(old) not in await kids(worker)
        assert await other.authenticate(bearer(await made_by(one))) is not None


async def test_a_key_ends_when_the_last_token_that_it_signed_has(opening: Opening, records: Records) -> None:
    async with opening(token_expiry_hours=1) as opened:
        old = await made_by(opened)
        await opened.service.keys.rotate()
        await aged(records, 3000)
        assert await opened.authenticate(bearer(old)) is not None
        await aged(records, 1000)
        with pytest.raises(Unauthorized, match="unknown key"):
            await opened.authenticate(bearer(old))
        assert kid_of(old) not in await kids(opened)
        await opened.service.keys.rotate()
    found = await records.read(lambda db: db.execute(select(tables.keys.c.kid)).scalars().all())
    assert len(found) == 2
    assert kid_of(old) not in found


async def test_a_key_outlives_long_tokens_of_the_docker_protocol(opening: Opening, records: Records) -> None:
    async with opening(token_expiry_hours=1, token_seconds=7200) as opened:
        old = await made_by(opened)
        await opened.service.keys.rotate()
        await aged(records, 7000)
        assert await opened.authenticate(bearer(old)) is not None
        await opened.service.keys.rotate()
        await asyncio.sleep(REVOKED_SECONDS)
        assert await opened.authenticate(bearer(old)) is not None


async def test_a_key_that_is_too_old_is_replaced_once(opening: Opening, records: Records) -> None:
    async with opening(rotate_days=1) as one, opening(rotate_days=1) as other:
        await one.service.upkeep()
        assert len(await kids(one)) == 1
        await aged(records, 86400 + 60)
        await asyncio.gather(one.service.upkeep(), other.service.upkeep(), one.service.upkeep())
        await asyncio.sleep(REVOKED_SECONDS)
        assert len(await kids(one)) == 2


async def test_another_algorithm_takes_over(opening: Opening) -> None:
    async with opening() as before:
        old = await made_by(before)
        async with opening(algorithm="EdDSA") as after:
            new = await made_by(after)
            await asyncio.sleep(REVOKED_SECONDS)
            for worker in (before, after):
                for token in (old, new):
                    assert await worker.authenticate(bearer(token)) is not None


async def test_a_shared_secret_signs_on_every_node(opening: Opening) -> None:
    secret = Secret("one that is long enough to be taken")
    async with opening(algorithm="HS256", jwt_secret=secret) as one:
        token = await made_by(one)
        assert jwt.decode(token, str(secret), ["HS256"], audience="drift")["sub"] == "alice"
        assert await one.authenticate(bearer(token)) is not None
    async with opening(algorithm="HS256", jwt_secret=Secret(f"{secret}.")) as changed:
        with pytest.raises(Unauthorized):
            await changed.authenticate(bearer(token))


@pytest.mark.parametrize(
    ("secret", "reason"),
    [(None, "needs"), ("change-me-in-production", "the default"), ("31 bytes are not quite enough..", "32 bytes")],
)
def test_a_secret_that_is_none_is_refused(secret: str | None, reason: str) -> None:
    config = {"algorithm": "HS256"} | ({} if secret is None else {"jwt_secret": secret})
    with pytest.raises(msgspec.ValidationError) as refusal:
        msgspec.convert(config, TokenConfig, dec_hook=lambda _, value: Secret(value))
    assert "jwt_secret" in str(refusal.value)
    assert reason in str(refusal.value)
    assert secret is None or secret not in str(refusal.value)
    # What is not used does no harm.
    msgspec.convert(config | {"algorithm": "ES256"}, TokenConfig, dec_hook=lambda _, value: Secret(value))


async def test_no_key_shows_itself(opened: TokenAuthenticator) -> None:
    keyring: Keyring = await opened._snapshot.get()
    assert "PRIVATE" not in repr(keyring)
    assert "private" not in repr(keyring.keys[0]).lower()
