"""Asks a provider again, now and then, whether somebody to whom Drift has given something may still log in."""

import asyncio
import time
from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from drift_auth_oidc.fetching import RefusedError
from drift_auth_oidc.grants import Grant, Grants, of_id
from drift_auth_oidc.person import Person
from drift_auth_oidc.provider import Provider, SupportsRecheck
from drift_core.api import Denied, Unauthorized, Unavailable

AGAIN_SECONDS = 60.0
"""How long a provider that did not answer is left alone, by all; or by one grant that it did not answer about."""

LONGEST_SECONDS, LONGEST_RECHECKS = 86400.0, 4
"""How old what it said may get meanwhile: the longer of the two, a time and as many times the provider's own."""


class Membership:
    """For providers whose people can be asked about later; what others said holds as long as the grant."""

    def __init__(self, providers: Mapping[str, Provider], grants: Grants, log: FilteringBoundLogger) -> None:
        self._providers = {name: one for name, one in providers.items() if isinstance(one, SupportsRecheck)}
        self._grants = grants
        self._log = log
        self._running: dict[str, asyncio.Task[Grant]] = {}
        self._unanswered: dict[str, float] = {}

    async def close(self) -> None:
        """Ends what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def current(self, grant: Grant) -> Grant:
        """Returns the grant with what the provider says, which is asked where that is too old.

        While it does not answer, what it said last holds.

        Raises:
            Unauthorized: the person may not log in now; the grant is then revoked.
            Unavailable: it has not answered for too long.
        """
        provider = self._providers.get(grant.person.provider)
        if provider is None or self._grants.clock() - grant.checked < provider.recheck_seconds:
            return grant
        if self._left_alone(grant.person.provider) or self._left_alone(grant.id):
            return self._unchecked(provider, grant)
        task = self._running.get(grant.id)
        if task is None:
            task = self._running[grant.id] = asyncio.create_task(self._ask(provider, grant))
            task.add_done_callback(lambda _: self._running.pop(grant.id, None))
        # One request that ends early must not end it for the others.
        return await asyncio.shield(task)

    async def _ask(self, provider: SupportsRecheck, grant: Grant) -> Grant:
        try:
            person = await self._said(provider, grant)
        except (Unauthorized, Denied) as error:
            await self._grants.revoke(of_id(grant.id), error.message)
            raise Unauthorized("the login provider does not know you any more; log in again") from error
        except Unavailable as error:
            self._leave_alone(grant.id if isinstance(error, RefusedError) else grant.person.provider)
            self._log.warning(
                "membership cannot be checked", provider=grant.person.provider, grant=grant.id, error=error.message
            )
            return self._unchecked(provider, grant)
        return await self._grants.confirm(grant, person)

    def _unchecked(self, provider: SupportsRecheck, grant: Grant) -> Grant:
        if self._grants.clock() - grant.checked > max(LONGEST_SECONDS, LONGEST_RECHECKS * provider.recheck_seconds):
            raise Unavailable("the login provider cannot be asked whether you may still log in")
        return grant

    def _left_alone(self, key: str) -> bool:
        return time.monotonic() - self._unanswered.get(key, float("-inf")) < AGAIN_SECONDS

    def _leave_alone(self, key: str) -> None:
        # The oldest come first, so that this drops each once, and keeps only those that count.
        while self._unanswered and not self._left_alone(oldest := next(iter(self._unanswered))):
            del self._unanswered[oldest]
        self._unanswered.pop(key, None)
        self._unanswered[key] = time.monotonic()

    async def _said(self, provider: SupportsRecheck, grant: Grant) -> Person:
        token = self._grants.opened(grant.sealed)
        if token is None:
            raise Unauthorized("the provider cannot be asked again")
        known = await provider.recheck(token)
        if known.person.subject != grant.person.subject:
            raise Unauthorized("the provider speaks of somebody else")
        return known.person
