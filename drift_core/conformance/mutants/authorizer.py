"""Authorizers that each break one rule of `AuthorizerSuite`."""

import asyncio
from collections.abc import Sequence

from drift_core.api import Identity, Scope, Verdict, Visible
from drift_core.conformance.reference.authorizer import ForeseeingAuthorizer, MemoryAuthorizer


class AnswersOnce(MemoryAuthorizer):
    """Gives one verdict for a scope that is asked twice."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        return await super().decide(identity, list(dict.fromkeys(scopes)))


class AnswersInItsOrder(MemoryAuthorizer):
    """Sorts the scopes and forgets to bring the verdicts back into the order of the question."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        return await super().decide(identity, sorted(scopes))


class ForgetsWhoAsks(MemoryAuthorizer):
    """Decides for everybody as for the first whom it knows."""

    first: Identity | None = None

    def verdict(self, identity: Identity | None, scope: Scope) -> Verdict:
        self.first = self.first or identity
        return super().verdict(identity and self.first, scope)


class TrustsNobody(MemoryAuthorizer):
    """Allows more to a request of nobody than to those who are known."""

    def verdict(self, identity: Identity | None, scope: Scope) -> Verdict:
        return super().verdict(identity, scope) if identity else Verdict(True)


class ChecksNames(MemoryAuthorizer):
    """Raises for a name that no repository can have."""

    def verdict(self, identity: Identity | None, scope: Scope) -> Verdict:
        if scope.name == "..":
            raise ValueError(scope.name)
        return super().verdict(identity, scope)


class LetsTheFirstRuleWin(MemoryAuthorizer):
    """Looks no further where a rule allows, and so overlooks one that denies."""

    def verdict(self, identity: Identity | None, scope: Scope) -> Verdict:
        return next(
            (Verdict(rule.effect == "allow") for rule in self.rules if rule.applies(identity, scope)), Verdict(None)
        )


class ShowsWhatItDenies(ForeseeingAuthorizer):
    """Leaves out, where it says what may be pulled, what a rule denies."""

    async def visible(self, identity: Identity | None) -> Visible:
        return Visible((await super().visible(identity)).allowed)


class SharesItsState(MemoryAuthorizer):
    """Keeps on itself who asks, while others run."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        self.asking = identity
        await asyncio.sleep(0)
        return await super().decide(self.asking, scopes)


class EndsWithTheRequest(MemoryAuthorizer):
    """Loses its rules when a request is cancelled."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        try:
            return await super().decide(identity, scopes)
        except asyncio.CancelledError:
            self.rules.clear()
            raise


MUTANTS: dict[str, type[MemoryAuthorizer]] = {
    "authorizer.one-verdict-each": AnswersOnce,
    "authorizer.batch-is-its-singles": AnswersInItsOrder,
    "authorizer.identities-differ": ForgetsWhoAsks,
    "authorizer.anonymous": TrustsNobody,
    "authorizer.anything-is-decided": ChecksNames,
    "authorizer.monotone-in-deny": LetsTheFirstRuleWin,
    "authorizer.visible-is-what-may-be-pulled": ShowsWhatItDenies,
    "authorizer.concurrent-decisions": SharesItsState,
    "authorizer.cancelled-decision": EndsWithTheRequest,
}
