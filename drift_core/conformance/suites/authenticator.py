"""The rules of every `Authenticator`."""

import asyncio
import re
import statistics
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain

import pytest

from drift_core.api import Authenticator, Credentials, Identity, Scope, Unauthorized
from drift_core.conformance.rules import Suite

KIB = 1 << 10
LIMIT = 30.0
"""Seconds after which a rule takes it that no answer will come."""

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a rule of the grammar
QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
PARAMETER = rf"{TOKEN}[ \t]*=[ \t]*(?:{TOKEN}|{QUOTED})"
COMMA = r"[ \t]*,[ \t]*"
CHALLENGE = rf"{TOKEN}(?: +(?:[A-Za-z0-9._~+/-]+=*|{PARAMETER}(?:{COMMA}{PARAMETER})*))?"
CHALLENGES = re.compile(rf"{CHALLENGE}(?:{COMMA}{CHALLENGE})*")
"""WWW-Authenticate: RFC 9110 sections 11.2, 11.3 and 11.6.1."""


async def answer(authenticator: Authenticator, credentials: Credentials) -> Identity | Unauthorized | None:
    """Returns one of the three answers; any other exception is not caught."""
    try:
        return await authenticator.authenticate(credentials)
    except Unauthorized as refusal:
        return refusal


def authorization(value: str) -> Credentials:
    """Returns what a request with this header says."""
    return Credentials(value, (("authorization", value),), "192.0.2.1")


def schemes(good: Credentials) -> list[str]:
    """Returns the scheme of the good credentials, and those that every client knows."""
    own = (good.authorization or "").partition(" ")[0]
    return list(dict.fromkeys(scheme for scheme in (own, "Basic", "Bearer") if scheme))


def basic(value: bytes) -> str:
    """Returns what follows ``Basic`` for these bytes."""
    return b64encode(value).decode()


def token(header: bytes, claims: bytes = b"{}") -> str:
    """Returns something in the form of a signed token."""
    header, claims, signature = (urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims, b"signature"))
    return f"{header.decode()}.{claims.decode()}.{signature.decode()}"


MALFORMED = (
    *("", " ", "=", "====", "a", "!!!!", ":", "a:b", ",", '"', "\t", "a b c", "realm=", 'x="y', "\0", "a=b=c"),
    *(basic(b""), basic(b":"), basic(b"no colon"), basic(b"\0:\0"), basic(b"\n\n"), basic(b"a:b")[:-1]),
    *(".", "..", "...", "a.b.c", "e30.e30.", token(b""), token(b"null"), token(b"[]"), token(b"{}", b"[]")),
    *(token(b"{"), token(b'{"alg":1}'), token(b'{"alg":[]}'), token(b'{"alg":"HS256","kid":{}}')),
)
NOT_UTF8 = (
    *(basic(b"\xff\xfe:\xff"), basic(b"user:\xc3\x28"), basic(b"\xed\xa0\x80:\xed\xa0\x80"), token(b'{"alg":"\xff"}')),
    *(b"\xff\xfe".decode("latin-1"), b"\xff\xfe".decode("utf-8", "surrogateescape"), "\N{ARABIC-INDIC DIGIT ONE}"),
)
OVERSIZED = (
    *("a" * 1024 * KIB, *(character * 64 * KIB for character in "=. ,")),
    *(basic(b"user:" + b"a" * 768 * KIB), basic(b"u" * 768 * KIB + b":a"), basic(b":" * 64 * KIB)),
    *(token(b"[" * 100 * KIB), token(b'{"a":' * 100 * KIB), token(b'{"a":' * 1000), token(b'{"alg":' + b"9" * 5000)),
)


def secrets(credentials: Credentials) -> Iterator[str]:
    """Yields what proves who sends the credentials: what follows the scheme, and a password in it."""
    value = (credentials.authorization or "").partition(" ")[2].strip()
    if value:
        yield value
    try:
        password = b64decode(value, validate=True).partition(b":")[2].decode()
    except ValueError:
        return
    if password:
        yield password


class AuthenticatorSuite(Suite):
    """Needs the fixtures ``authenticator``, ``good``, ``bad`` and ``foreign``.

    ``good`` is a pair: `Credentials`, and the name of their owner. ``bad`` is a list of `Credentials` that this
    authenticator is responsible for and must refuse, ``foreign`` are some that it leaves to others. The other fixtures
    are optional; a rule without its fixture is skipped.
    """

    family = "authenticator"
    subject = "authenticator"

    @pytest.fixture
    def guesses(self) -> tuple[Credentials, Credentials]:
        """Two wrong credentials: for a user who exists, and for one who does not."""
        pytest.skip("no fixture: guesses")

    @pytest.fixture
    def expired(self) -> Credentials:
        """Credentials that were good until some time ago."""
        pytest.skip("no fixture: expired")

    @pytest.fixture
    def not_yet_valid(self) -> Credentials:
        """Credentials that will be good in some time."""
        pytest.skip("no fixture: not_yet_valid")

    @pytest.fixture
    def wrong_audience(self) -> Credentials:
        """Credentials that were made for another service."""
        pytest.skip("no fixture: wrong_audience")

    @pytest.fixture
    def unsigned(self) -> Credentials:
        """A token with the algorithm "none" and no signature (RFC 8725 section 3.2)."""
        pytest.skip("no fixture: unsigned")

    @pytest.fixture
    def unknown_key(self) -> Credentials:
        """A token, correct in itself, that is signed by a key of nobody."""
        pytest.skip("no fixture: unknown_key")

    @pytest.fixture
    def revoke(self) -> Callable[[], Awaitable[None]]:
        """Revokes the good credentials, and returns when the time has passed after which this must have effect."""
        pytest.skip("no fixture: revoke")

    async def test_good_credentials(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """Good credentials give the identity of their owner, each time."""
        credentials, name = good
        for _ in range(3):
            identity = await authenticator.authenticate(credentials)
            assert identity is not None
            assert identity.name == name
            assert identity.source

    async def test_bad_credentials(self, authenticator: Authenticator, bad: list[Credentials]) -> None:
        """Credentials of the authenticator's own kind that are wrong are refused: nobody else is asked about them."""
        for credentials in bad:
            assert isinstance(await answer(authenticator, credentials), Unauthorized), credentials

    async def test_foreign_credentials(self, authenticator: Authenticator, foreign: Credentials) -> None:
        """Credentials of another kind are left to the next authenticator."""
        assert await answer(authenticator, foreign) is None

    async def test_anonymous(self, authenticator: Authenticator) -> None:
        """A request without any credentials is left to the next authenticator, and in the end to the policies."""
        assert await answer(authenticator, Credentials(None, (("host", "example.org"),), "192.0.2.1")) is None

    async def test_scheme_in_any_case(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """The authentication scheme is matched without regard to case (RFC 9110 section 11.1)."""
        credentials = good[0]
        if credentials.authorization is None:
            pytest.skip("the good credentials have no Authorization")
        scheme, space, value = credentials.authorization.partition(" ")
        for variant in (scheme.lower(), scheme.upper(), scheme.swapcase()):
            identity = await answer(authenticator, authorization(variant + space + value))
            assert isinstance(identity, Identity), variant

    @pytest.mark.parametrize("count", [0, 1, 20])
    async def test_challenge(self, authenticator: Authenticator, count: int) -> None:
        """The challenge is a WWW-Authenticate as RFC 9110 section 11.6.1 defines it, for any scopes, or none at all."""
        scopes = [Scope("repository", f"team/app-{number}", "pull") for number in range(count)]
        for asked in (scopes, [*scopes, Scope("registry", "catalog", "*")]):
            challenge = authenticator.challenge(asked)
            assert challenge is None or CHALLENGES.fullmatch(challenge)

    async def test_malformed_credentials(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """Credentials that do not follow their own syntax are refused or left to others."""
        for scheme in schemes(good[0]):
            for value in chain((scheme,), (f"{scheme} {rest}" for rest in MALFORMED), MALFORMED):
                given = await answer(authenticator, authorization(value))
                assert not isinstance(given, Identity), value

    async def test_credentials_not_in_utf8(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """Credentials that are not UTF-8 are refused or left to others."""
        for scheme in schemes(good[0]):
            for value in NOT_UTF8:
                given = await answer(authenticator, authorization(f"{scheme} {value}"))
                assert not isinstance(given, Identity), value

    async def test_oversized_credentials(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """Credentials of up to a mebibyte, however deeply nested, are refused or left to others."""
        for scheme in schemes(good[0]):
            for value in OVERSIZED:
                given = await answer(authenticator, authorization(f"{scheme} {value}"))
                assert not isinstance(given, Identity), value[:40]

    async def test_refusal_keeps_the_secret(self, authenticator: Authenticator, bad: list[Credentials]) -> None:
        """A refusal, which the client and the log see, repeats neither the token nor the password."""
        for credentials in bad:
            refusal = await answer(authenticator, credentials)
            if isinstance(refusal, Unauthorized):
                shown = f"{refusal} {refusal.message} {refusal.detail} {refusal.headers()}"
                assert not [secret for secret in secrets(credentials) if secret in shown]

    async def test_concurrent_logins(
        self,
        authenticator: Authenticator,
        good: tuple[Credentials, str],
        bad: list[Credentials],
        foreign: Credentials,
    ) -> None:
        """A hundred requests at once are each answered as they would be alone."""
        kinds = [good[0], bad[0], foreign, bad[-1]]
        alone = [await answer(authenticator, credentials) for credentials in kinds]
        requests = [kinds[number % len(kinds)] for number in range(100)]
        async with asyncio.timeout(LIMIT):
            together = await asyncio.gather(*(answer(authenticator, credentials) for credentials in requests))
        for number, given in enumerate(together):
            expected = alone[number % len(kinds)]
            assert type(given) is type(expected)
            assert not isinstance(given, Identity) or given == expected

    async def test_cancelled_login(self, authenticator: Authenticator, good: tuple[Credentials, str]) -> None:
        """A request that ends while its credentials are checked does not keep the next from being answered."""
        for steps in range(20):
            login = asyncio.create_task(answer(authenticator, good[0]))
            for _ in range(steps):
                await asyncio.sleep(0)
            login.cancel()
            await asyncio.wait([login])
        async with asyncio.timeout(LIMIT):
            assert isinstance(await answer(authenticator, good[0]), Identity)

    async def test_unknown_users_cost_the_same(
        self, authenticator: Authenticator, guesses: tuple[Credentials, Credentials]
    ) -> None:
        """Whether a user exists cannot be told by how long a wrong password takes: both cost the same work."""
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(31):
            for credentials, times in zip(guesses, spent, strict=True):
                # The work of the whole process, so that a hash in a thread counts and a busy machine does not.
                began = time.process_time()
                assert not isinstance(await answer(authenticator, credentials), Identity)
                times.append(time.process_time() - began)
        known, unknown = (statistics.median(times) for times in spent)
        # Generous, so that it never fails by chance: without the hash of a password the ratio is 10 or 1000.
        assert abs(known - unknown) < 50e-6 or 0.5 < known / unknown < 2

    async def test_expired(self, authenticator: Authenticator, expired: Credentials) -> None:
        """Credentials that have expired are refused."""
        assert isinstance(await answer(authenticator, expired), Unauthorized)

    async def test_not_yet_valid(self, authenticator: Authenticator, not_yet_valid: Credentials) -> None:
        """Credentials that are not yet valid are refused."""
        assert isinstance(await answer(authenticator, not_yet_valid), Unauthorized)

    async def test_wrong_audience(self, authenticator: Authenticator, wrong_audience: Credentials) -> None:
        """Credentials for another service are refused."""
        assert isinstance(await answer(authenticator, wrong_audience), Unauthorized)

    async def test_unsigned(self, authenticator: Authenticator, unsigned: Credentials) -> None:
        """A token that says that it needs no signature is refused."""
        assert isinstance(await answer(authenticator, unsigned), Unauthorized)

    async def test_unknown_key(self, authenticator: Authenticator, unknown_key: Credentials) -> None:
        """A token that is signed by an unknown key is refused."""
        assert isinstance(await answer(authenticator, unknown_key), Unauthorized)

    async def test_revoked(
        self, authenticator: Authenticator, good: tuple[Credentials, str], revoke: Callable[[], Awaitable[None]]
    ) -> None:
        """Credentials that were used and then revoked are refused, once the stated time has passed."""
        assert isinstance(await answer(authenticator, good[0]), Identity)
        await revoke()
        assert isinstance(await answer(authenticator, good[0]), Unauthorized)
