"""The rules of every `Authorizer`."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence

import pytest

from drift_core.api import Authorizer, Identity, Scope, SupportsVisibility, Verdict, Visible
from drift_core.conformance.rules import Suite, power

LIMIT = 30.0
"""Seconds after which a rule takes it that no answer will come."""

ODD = ("", "*", "..", "a//b", "UPPER", "a:b", "\0", "\N{GREEK SMALL LETTER ALPHA}", "%s'\"; --", "a/" * 5000)


async def allowed(authorizer: Authorizer, identity: Identity | None, scopes: Sequence[Scope]) -> list[bool | None]:
    """Returns what is decided, without the reasons."""
    return [verdict.allowed for verdict in await authorizer.decide(identity, scopes)]


def sees(visible: Visible, name: str) -> bool:
    """Tells whether a repository is visible."""

    def fits(globs: Sequence[str]) -> bool:
        return any(re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name) for glob in globs)

    return fits(visible.allowed) and (not fits(visible.denied) or fits(visible.despite))


class AuthorizerSuite(Suite):
    """Needs the fixtures ``authorizer``, ``identities``, ``scopes`` and ``public``.

    ``identities`` are some that differ in what they may do; ``scopes`` some of which each is allowed to one of them and
    not to another; ``public`` those of ``scopes``, in their order, that need no identity. The fixture ``deny`` is
    optional; a rule without its fixture is skipped.
    """

    family = "authorizer"
    subject = "authorizer"

    @pytest.fixture
    def deny(self) -> Callable[[Identity, Scope], Awaitable[None]]:
        """Adds to the policy, where it has such rules, that this identity is denied this scope."""
        pytest.skip("no fixture: deny")

    async def test_one_verdict_each(
        self, authorizer: Authorizer, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """There is one verdict for each scope, also for none, for one twice, and for a page of a thousand."""
        for asked in ([], scopes[:1] * 2, scopes, (scopes * 1000)[:1000], tuple(scopes)):
            verdicts = await authorizer.decide(identities[0], asked)
            assert len(verdicts) == len(asked)
            assert all(isinstance(verdict, Verdict) for verdict in verdicts)

    async def test_batch_is_its_singles(
        self, authorizer: Authorizer, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """Scopes that are asked together are decided as each would be alone, in whichever order they come."""
        for identity in (*identities, None):
            alone = {scope: (await allowed(authorizer, identity, [scope]))[0] for scope in scopes}
            for seed in range(5):
                asked = random.Random(seed).sample(scopes, len(scopes))
                assert await allowed(authorizer, identity, asked) == [alone[scope] for scope in asked]

    async def test_identities_differ(
        self, authorizer: Authorizer, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """The policy decides by who asks and for what: of each scope, some may use it and some may not."""
        rows = [await allowed(authorizer, identity, scopes) for identity in identities]
        for scope, column in zip(scopes, zip(*rows, strict=True), strict=True):
            assert True in column, f"nobody may {scope}"
            assert set(column) != {True}, f"everybody may {scope}"

    async def test_anonymous(self, authorizer: Authorizer, scopes: list[Scope], public: list[Scope]) -> None:
        """A request of nobody is decided too: it may do what is public, and nothing else."""
        verdicts = await allowed(authorizer, None, scopes)
        assert [scope for scope, verdict in zip(scopes, verdicts, strict=True) if verdict] == public

    async def test_anything_is_decided(self, authorizer: Authorizer, scopes: list[Scope]) -> None:
        """Identities of which the policy never heard, and scopes that nothing can have, are decided without a fault."""
        odd = [Scope(kind, name, action) for kind in ("repository", "?") for name in ODD for action in ("pull", "")]
        for name in ODD:
            identity = Identity(name, "conformance", frozenset(ODD), frozenset(ODD))
            assert len(await authorizer.decide(identity, [*odd, *scopes])) == len(odd) + len(scopes)

    async def test_monotone_in_deny(
        self,
        authorizer: Authorizer,
        identities: list[Identity],
        scopes: list[Scope],
        deny: Callable[[Identity, Scope], Awaitable[None]],
    ) -> None:
        """A rule that denies takes the right away, whatever else allows it, and allows nobody anything."""
        before = {identity: await allowed(authorizer, identity, scopes) for identity in identities}
        denied, position = next((one, verdicts.index(True)) for one, verdicts in before.items() if True in verdicts)
        await deny(denied, scopes[position])
        assert (await allowed(authorizer, denied, scopes))[position] is False
        for identity in identities:
            for was, now in zip(before[identity], await allowed(authorizer, identity, scopes), strict=True):
                assert now is not True or was is True

    @power(SupportsVisibility)
    async def test_visible_is_what_may_be_pulled(
        self, authorizer: SupportsVisibility, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """Where it says beforehand which repositories may be pulled, these are the ones that it then allows."""
        assert isinstance(authorizer, Authorizer)
        names = [*{scope.name for scope in scopes if scope.kind == "repository"}, "a", "a/b", "zoe/app-1"]
        for identity in (*identities, None):
            verdicts = await allowed(authorizer, identity, [Scope("repository", name, "pull") for name in names])
            seen = await authorizer.visible(identity)
            expected = [name for name, verdict in zip(names, verdicts, strict=True) if verdict]
            assert [name for name in names if sees(seen, name)] == expected

    async def test_concurrent_decisions(
        self, authorizer: Authorizer, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """A hundred questions at once are each answered as they would be alone."""
        askers = [*identities, None]
        alone = [await allowed(authorizer, identity, scopes) for identity in askers]
        questions = (allowed(authorizer, askers[number % len(askers)], scopes) for number in range(100))
        async with asyncio.timeout(LIMIT):
            together = await asyncio.gather(*questions)
        assert together == [alone[number % len(askers)] for number in range(100)]

    async def test_cancelled_decision(
        self, authorizer: Authorizer, identities: list[Identity], scopes: list[Scope]
    ) -> None:
        """A request that ends while it is decided does not change what the next is told."""
        expected = await allowed(authorizer, identities[0], scopes)
        for steps in range(10):
            question = asyncio.create_task(allowed(authorizer, identities[0], scopes))
            for _ in range(steps):
                await asyncio.sleep(0)
            question.cancel()
            await asyncio.wait([question])
        async with asyncio.timeout(LIMIT):
            assert await allowed(authorizer, identities[0], scopes) == expected
