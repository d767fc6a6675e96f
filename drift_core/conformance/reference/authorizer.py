"""An `Authorizer` in memory: a list of rules, of which one that denies wins."""

import asyncio
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from drift_core.api import Identity, Scope, Verdict


class PolicyRule(Struct, frozen=True):
    """Allows or denies ``action`` to ``who``, a name or a group; ``*`` is everybody, and in ``name`` any text."""

    effect: Literal["allow", "deny"]
    who: str
    name: str
    action: str

    def applies(self, identity: Identity | None, scope: Scope) -> bool:
        """Tells whether the rule is about this."""
        known = {identity.name, *identity.groups} if identity else set()
        return (
            (self.who == "*" or self.who in known)
            and fnmatchcase(scope.name, self.name)
            and self.action in {"*", scope.action}
        )


class MemoryAuthorizer:
    """Decides by ``rules``, to which may be added at any time."""

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        self.rules = list(rules)

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        """See `Authorizer`."""
        await asyncio.sleep(0)
        return [self.verdict(identity, scope) for scope in scopes]

    def verdict(self, identity: Identity | None, scope: Scope) -> Verdict:
        """Returns the verdict on one scope."""
        effects = [rule.effect for rule in self.rules if rule.applies(identity, scope)]
        if "deny" in effects:
            return Verdict(False, f"a rule denies {scope}")
        return Verdict(True) if effects else Verdict(None)
