"""The authenticator suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

from base64 import b64encode
from collections.abc import Awaitable, Callable

import pytest

from drift_core.api import Authenticator, Credentials
from drift_core.conformance import AuthenticatorSuite
from drift_core.conformance.mutants.authenticator import MUTANTS
from drift_core.conformance.reference.authenticator import MemoryAuthenticator, MemoryIssuer, signed
from drift_core.conformance.suites.authenticator import CHALLENGES
from tests.conformance.mutation import RULES, asked, failed_rules

NOW = 1_000_000.0
KEY = b"k" * 32


def sent(authorization: str) -> Credentials:
    return Credentials(authorization, (("authorization", authorization),), "192.0.2.1")


def password(name: str, word: str) -> Credentials:
    return sent("Basic " + b64encode(f"{name}:{word}".encode()).decode())


def bearer(key: bytes = KEY, header: dict[str, str] | None = None, **claims: object) -> Credentials:
    usual = {"sub": "ci", "aud": "drift", "nbf": NOW - 60, "exp": NOW + 60}
    return sent("Bearer " + signed(key, {"alg": "HS256", "kid": "1", **(header or {})}, usual | claims))


class Rotating:
    """The issuer of a `MemoryAuthenticator`."""

    def __init__(self, issuer: MemoryIssuer) -> None:
        self.issuer = issuer

    async def rotate(self) -> Credentials:
        name = str(len(self.issuer.keys) + 1)
        self.issuer.keys[name] = name.encode() * 32
        return bearer(self.issuer.keys[name], {"kid": name})

    async def stop(self) -> None:
        self.issuer.reachable = False

    async def start(self) -> None:
        self.issuer.reachable = True


class InMemory(AuthenticatorSuite):
    """Everything but the authenticator, which is a mutant or the reference."""

    @pytest.fixture
    def good(self) -> tuple[Credentials, str]:
        return password("ann", "correct horse"), "ann"

    @pytest.fixture
    def bad(self) -> list[Credentials]:
        return [password("ann", "Tr0ub4dor"), password("ann", ""), bearer(b"x" * 32), password("ben", "Tr0ub4dor")]

    @pytest.fixture
    def foreign(self) -> Credentials:
        return sent("Negotiate YII=")

    @pytest.fixture
    def guesses(self) -> tuple[Credentials, Credentials]:
        return password("ann", "guess"), password("ben", "guess")

    @pytest.fixture
    def expired(self) -> Credentials:
        return bearer(exp=NOW)

    @pytest.fixture
    def not_yet_valid(self) -> Credentials:
        return bearer(nbf=NOW + 1)

    @pytest.fixture
    def wrong_audience(self) -> Credentials:
        return bearer(aud="elsewhere")

    @pytest.fixture
    def unsigned(self) -> Credentials:
        return bearer(b"", {"alg": "none"})

    @pytest.fixture
    def unknown_key(self) -> Credentials:
        return bearer(b"x" * 32, {"kid": "2"})

    @pytest.fixture
    def issuer(self, authenticator: MemoryAuthenticator) -> Rotating:
        return Rotating(authenticator.issuer)

    @pytest.fixture
    def revoke(self, authenticator: MemoryAuthenticator) -> Callable[[], Awaitable[None]]:
        async def revoke() -> None:
            authenticator.revoked.add("ann")

        return revoke


class Opened:
    """Opens a mutant, or the reference."""

    kind = MemoryAuthenticator

    @pytest.fixture
    def authenticator(self) -> MemoryAuthenticator:
        return self.kind({"ann": "correct horse", "bob": "Tr0ub4dor"}, MemoryIssuer({"1": KEY}), clock=lambda: NOW)


class TestReference(Opened, InMemory):
    """The reference passes."""


async def test_the_reference_takes_its_tokens() -> None:
    """Otherwise the rules on tokens would hold for one that refuses them all."""
    authenticator: Authenticator = MemoryAuthenticator({}, MemoryIssuer({"1": KEY}), clock=lambda: NOW)
    identity = await authenticator.authenticate(bearer())
    assert identity is not None
    assert identity.name == "ci"


@pytest.mark.parametrize(
    "value",
    [
        r'Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"',  # RFC 9110 section 11.6.1
        "Negotiate",
        "Negotiate YII=",
        'Bearer realm="https://auth.example.org/token",service="registry"',
    ],
)
def test_challenges(value: str) -> None:
    assert CHALLENGES.fullmatch(value)


@pytest.mark.parametrize("value", ["", "Basic realm=a b", 'Basic realm="a', 'Basic realm="a" x="b"', "Basic\r\nx: y"])
def test_not_challenges(value: str) -> None:
    assert CHALLENGES.fullmatch(value) is None


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in AuthenticatorSuite.rules()} == MUTANTS.keys()


@RULES
@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str, extent: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(InMemory, mutant, asked(rule, extent)) == {rule}
