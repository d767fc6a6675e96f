"""Drops the tags of one repository that no rule keeps, one by one."""

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from drift_core.api import Denied, LocalRegistry, RegistryError
from drift_retention.judging import Judged
from drift_retention.measures import Measures

GONE = 404
MOVED = 412

Outcome = Literal["dropped", "refused", "changed", "failed"]


class Drop(Struct, frozen=True):
    """What came of a tag that no rule keeps; ``reason`` is why it is still there.

    One that is ``changed`` was deleted, or names something else, since it was judged.
    """

    repository: str
    tag: str
    digest: str
    outcome: Outcome
    reason: str = ""


class Dropper:
    """Drops tags by a registry; with ``dry_run`` it only says which."""

    def __init__(
        self, registry: LocalRegistry, measures: Measures, log: FilteringBoundLogger, *, dry_run: bool
    ) -> None:
        self._registry = registry
        self._measures = measures
        self._log = log
        self._dry_run = dry_run

    async def run(self, repository: str, judged: list[Judged]) -> AsyncIterator[Drop]:
        """Yields what came of each tag that is not kept; what cannot be dropped does not keep the others."""
        for one in judged:
            if not one.kept:
                outcome, reason = ("dropped", "") if self._dry_run else await self._drop(repository, one)
                yield Drop(repository, one.tag, str(one.digest), outcome, reason)

    async def _drop(self, repository: str, judged: Judged) -> tuple[Outcome, str]:
        log = self._log.bind(repository=repository, tag=judged.tag, digest=str(judged.digest))
        try:
            await self._registry.delete_tag(repository, judged.tag, judged.digest)
        except RegistryError as error:
            # A tag that was moved is refused, too, and not for a rule.
            if error.status in (GONE, MOVED):
                return "changed", error.message
            if isinstance(error, Denied):
                self._measures.refused.inc()
                log.info("no rule keeps a tag, but it may not be deleted", reason=error.message)
                return "refused", error.message
            self._measures.failed.inc()
            log.warning("a tag that no rule keeps could not be dropped", reason=error.message)
            return "failed", error.message
        self._measures.dropped.inc()
        log.info("dropped a tag that no rule keeps")
        return "dropped", ""
