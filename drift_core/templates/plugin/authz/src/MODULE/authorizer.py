"""Writers may do everything, who logs in may pull, and anybody may pull what is public."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

from drift_core.api import Authorizer, Identity, Scope, Services, Verdict

from ${module}.config import ${prefix}Config


class ${prefix}Authorizer:
    """Says True or nothing: only a rule that must win over every other policy says False."""

    def __init__(self, config: ${prefix}Config) -> None:
        self._writers = frozenset(config.writers)
        self._groups = frozenset(config.writing_groups)
        self._public = config.public

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        """Decides all scopes of one request; ask a database once for all of them, not once for each."""
        return [Verdict(True if self._allows(identity, scope) else None) for scope in scopes]

    def _allows(self, identity: Identity | None, scope: Scope) -> bool:
        if scope.kind != "repository":
            return False
        if scope.action == "pull" and any(fnmatchcase(scope.name, glob) for glob in self._public):
            return True
        if identity is None:
            return False
        writes = identity.name in self._writers or not self._groups.isdisjoint(identity.groups)
        return writes or scope.action == "pull"


@asynccontextmanager
async def open_authorizer(config: ${prefix}Config, services: Services) -> AsyncIterator[Authorizer]:
    """Opens the driver for as long as the server runs."""
    services.log.info("writers were read", count=len(config.writers))
    yield ${prefix}Authorizer(config)
