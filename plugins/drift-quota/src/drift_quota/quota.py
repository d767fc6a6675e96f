"""The feature as the core sees it: adds up, is asked before pushes, and answers who holds how much."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from sqlalchemy import Connection

from drift_core.api import Accountant, Action, AuditEvent, Change, Denied, Gate, LocalRegistry, Services, pages
from drift_quota.config import QuotaConfig
from drift_quota.counting import Counting
from drift_quota.ledger import append, organization_of
from drift_quota.limits import Limits
from drift_quota.measures import Measures
from drift_quota.pages import pages_over
from drift_quota.routes import routes_over
from drift_quota.sizes import readable
from drift_quota.watching import Watch

GATED: Final[tuple[Action, ...]] = ("blob.push", "blob.mount", "manifest.push")


class Quota:
    """Its commands work on ``records``, ``limits`` and ``counting``."""

    name = "quota"
    gated: Collection[Action] = GATED

    def __init__(self, config: QuotaConfig, services: Services) -> None:
        self.records = services.records
        self.limits = Limits(config)
        self._measures = Measures(services.metrics)
        self.counting = Counting(services.records, self._measures, services.log)
        self._audit = services.audit
        self._watch = Watch(services.records)

    def account(self, db: Connection, repository: str, size: int) -> None:
        """See `Accountant`."""
        append(db, repository, size)

    async def admit(self, change: Change) -> None:
        """Refuses what does not fit; see `Gate`.

        A manifest is kept in the database and counts nothing; nor does a blob that is mounted without its size. They
        are refused once the limit is exceeded.
        """
        repository = change.repository
        organization = organization_of(repository)
        of_repository = self.limits.of_repository(repository)
        of_organization = self.limits.of_organization(organization)
        if of_repository is None and of_organization is None:
            return
        asked = 0 if change.action == "manifest.push" else change.size or 0
        held = await self._watch.held(repository)
        if of_repository is not None and held.repository + asked > of_repository:
            await self._refuse(change, "repository", repository, of_repository, held.repository, asked)
        if of_organization is not None and held.organization + asked > of_organization:
            await self._refuse(change, "organization", organization, of_organization, held.organization, asked)

    async def _refuse(
        self, change: Change, kind: Literal["repository", "organization"], name: str, limit: int, used: int, asked: int
    ) -> None:
        reason = f"the quota of the {kind} {name} is {_both(limit)}, of which {_both(used)} are used"
        reason += f"; {_both(asked)} more do not fit" if asked else "; nothing more is taken until something is deleted"
        self._measures.refusals.labels(kind).inc()
        figures = {"quota": kind, "name": name, "limit": limit, "used": used, "asked": asked}
        event = AuditEvent(
            type="QuotaExceeded",
            severity="warning",
            success=False,
            reason=reason,
            identity=change.identity,
            resource_type="Repository",
            resource_id=change.repository,
            digest=change.digest,
            size=change.size,
            parameters={**figures, "action": change.action},
        )
        await self._audit.note(event)
        raise Denied(reason, **figures)

    async def work(self, registry: LocalRegistry) -> None:
        """See `SupportsBackground`."""
        await self.counting.run(registry)

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    def routes(self) -> Sequence[Any]:
        """Returns the handler of ``/api/quota``."""
        return routes_over(self.records, self.limits)


def _both(size: int) -> str:
    return readable(size) if size < 1000 else f"{readable(size)} ({size} bytes)"  # noqa: PLR2004 - bytes already


@asynccontextmanager
async def open_quota(config: QuotaConfig, services: Services) -> AsyncIterator[Quota]:
    """Opens the feature; nothing is counted before `Quota.work`."""
    yield Quota(config, services)


_accountant: type[Accountant] = Quota
_gate: type[Gate] = Quota
