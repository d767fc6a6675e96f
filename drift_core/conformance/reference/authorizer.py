"""An `Authorizer` in memory: a list of rules, of which one that denies wins."""

import asyncio
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from drift_core.api import Identity, Scope, Verdict, Visible


class PolicyRule(Struct, frozen=True):
    """Allows or denies ``action`` to ``who``, a name or a group; ``*`` is everybody, and in ``name`` any text."""

    effect: Literal["allow", "deny"]
    who: str
    name: str
    action: str

    def applies(self, identity: Identity | None, scope: Scope) -> bool:
        """Tells whether the rule is about this."""
        return self.is_for(identity, scope.action) and fnmatchcase(scope.name, self.name)

    def is_for(self, identity: Identity | None, action: str) -> bool:
        """Tells whether the rule is about this, whatever its name."""
        known = {identity.name, *identity.groups} if identity else set()
        return (self.who == "*" or self.who in known) and self.action in {"*", action}


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


class ForeseeingAuthorizer(MemoryAuthorizer):
    """Also says beforehand what may be pulled."""

    async def visible(self, identity: Identity | None) -> Visible:
        """See `SupportsVisibility`."""
        return Visible(self.names(identity, "allow"), self.names(identity, "deny"))

    def names(self, identity: Identity | None, effect: str) -> tuple[str, ...]:
        """Returns the names in rules that allow, or deny, a pull."""
        return tuple(rule.name for rule in self.rules if rule.effect == effect and rule.is_for(identity, "pull"))
