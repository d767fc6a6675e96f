"""Decides before every request who asks and whether that is allowed; public endpoints are listed here alone."""

from collections.abc import Sequence

from msgspec import Struct

from drift_core.errors import Denied, Unauthorized
from drift_core.model import Identity, Scope
from drift_core.protocols import Authenticator, Authorizer, Credentials

PUBLIC = frozenset({"/health", "/healthz", "/readyz", "/version"})
"""Every path that answers without credentials."""

CATALOG = Scope("registry", "catalog", "*")
EVERYTHING = Scope("registry", "*", "*")
"""What a route of a feature needs unless its handler says otherwise by ``opt={"scope": Scope(...)}``."""


class Guard(Struct, frozen=True):
    """The configured authenticators, in order, and policies. Without authenticators everything is allowed."""

    authenticators: tuple[Authenticator, ...] = ()
    authorizers: tuple[Authorizer, ...] = ()

    @property
    def open(self) -> bool:
        """Says whether nobody has to log in."""
        return not self.authenticators

    async def admit(self, credentials: Credentials, scopes: Sequence[Scope]) -> Identity | None:
        """Returns who asks, None for nobody in particular, if all of ``scopes`` are allowed.

        Raises:
            Unauthorized: credentials are missing where they are needed, or bad; with every challenge.
            Denied: the identity may not do this.
        """
        if not self.authenticators:
            return None
        identity = await self._identify(credentials, scopes)
        refused = [
            scope for scope, allowed in zip(scopes, await self.verdicts(identity, scopes), strict=True) if not allowed
        ]
        if identity is None and (refused or not scopes):
            raise Unauthorized(challenges=self._challenges(scopes))
        if refused:
            raise Denied(scopes=[str(scope) for scope in refused])
        return identity

    async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> list[bool]:
        """Returns for each scope whether ``identity`` may use it: any deny refuses, else any allow allows."""
        if not self.authenticators:
            return [True] * len(scopes)
        within = [identity is None or identity.scopes is None or _covers(identity.scopes, scope) for scope in scopes]
        if not self.authorizers:
            return [identity is not None and inside for inside in within]
        answers = [await policy.decide(identity, scopes) for policy in self.authorizers]
        values: list[object] = [verdict.allowed for said in answers for verdict in said]
        # A 0 of a database would be no deny, and a "False" an allow.
        strange = [value for value in values if not isinstance(value, bool | None)]
        if strange:
            message = f"a policy answered {strange[0]!r}, which is neither True, False nor None"
            raise TypeError(message)
        by_scope = zip(within, *answers, strict=True)
        return [
            inside
            and all(verdict.allowed is not False for verdict in said)
            and any(verdict.allowed for verdict in said)
            for inside, *said in by_scope
        ]

    async def _identify(self, credentials: Credentials, scopes: Sequence[Scope]) -> Identity | None:
        for authenticator in self.authenticators:
            try:
                identity = await authenticator.authenticate(credentials)
            except Unauthorized as error:
                raise Unauthorized(error.message, self._challenges(scopes), **error.detail) from error
            if identity is not None:
                return identity
        return None

    def _challenges(self, scopes: Sequence[Scope]) -> tuple[str, ...]:
        challenges = (authenticator.challenge(scopes) for authenticator in self.authenticators)
        return tuple(challenge for challenge in challenges if challenge)


def _covers(granted: frozenset[Scope], scope: Scope) -> bool:
    return scope in granted or Scope(scope.kind, scope.name, "*") in granted
