"""Walks over all stored blobs, and puts what is damaged in quarantine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from drift_core.api import Audit, AuditEvent, BlobStat, Digest, LocalRegistry, Pace, Unavailable
from drift_scrub.measures import Measures
from drift_scrub.reading import Damage, read

ATTEMPTS = 3
"""How often a blob is asked for that the store does not give out, before the walk goes on behind it."""

RETRY_SECONDS = 60.0
"""Seconds between two attempts."""

MOST_LOST = 1000
"""Blobs missing at the beginning of a walk that make it end: it is not the store that they were pushed to."""

Outcome = Literal["whole", "damaged", "gone", "unreadable"]


class Checked(Struct, frozen=True):
    """What came of one blob; ``size`` in bytes, as recorded. One that is ``gone`` was removed meanwhile."""

    digest: Digest
    size: int
    outcome: Outcome
    reason: str = ""


class _Seen(Struct, frozen=True):
    """A blob as it was found, and the one before it, behind which it is recorded.

    ``damage`` None is a whole one, or one that nobody could read, for ``unreadable`` as the reason.
    """

    blob: BlobStat
    before: Digest | None
    damage: Damage | None = None
    unreadable: str | None = None

    @property
    def present(self) -> bool:
        return self.unreadable is None and (self.damage is None or not self.damage.missing)

    @property
    def missing(self) -> bool:
        return self.damage is not None and self.damage.missing


class Walk:
    """One walk over what a registry has stored; ``sleep`` is in seconds."""

    def __init__(
        self,
        registry: LocalRegistry,
        pace: Pace,
        measures: Measures,
        audit: Audit,
        log: FilteringBoundLogger,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._pace = pace
        self._measures = measures
        self._audit = audit
        self._log = log
        self._sleep = sleep

    async def run(self, after: Digest | None = None) -> AsyncIterator[Checked]:
        """Yields every blob behind ``after`` in order of digest, once it is done.

        What is missing waits until one blob was there: an empty store that is not the right one, or not mounted, would
        bring everything into quarantine.

        Raises:
            Unavailable: the database does not answer, or nothing at all is there.
        """
        before, present = after, False
        held: list[_Seen] = []
        async for blob in self._registry.stored_blobs(after):
            seen = await self._look(blob, before)
            before, present = blob.digest, present or seen.present
            held.append(seen)
            if present:
                for one in held:
                    yield await self._judged(one)
                held.clear()
            elif len(held) == MOST_LOST:
                break
        if len(held) == MOST_LOST or any(one.missing for one in held):
            message = f"the store has none of {len(held)} blobs, and is not the right one; none is put in quarantine"
            raise Unavailable(message)
        for one in held:
            yield await self._judged(one)

    async def _look(self, blob: BlobStat, before: Digest | None) -> _Seen:
        try:
            return _Seen(blob, before, await self._attempt(blob.digest))
        except Unavailable as error:
            return _Seen(blob, before, unreadable=_text(error))

    async def _attempt(self, digest: Digest) -> Damage | None:
        for _ in range(ATTEMPTS - 1):
            try:
                return await read(self._registry, digest, self._pace, self._measures)
            except Unavailable as error:
                self._log.warning("a stored blob cannot be read now", digest=str(digest), reason=_text(error))
            await self._sleep(RETRY_SECONDS)
        return await read(self._registry, digest, self._pace, self._measures)

    async def _judged(self, seen: _Seen) -> Checked:
        """Puts a damaged blob in quarantine, and returns what came of it."""
        if seen.damage is not None:
            # It may have been removed, pushed again, or mounted again, since it was read.
            seen = await self._look(seen.blob, seen.before)
        blob, damage = seen.blob, seen.damage
        if seen.unreadable is not None:
            self._measures.unreadable.inc()
            self._log.error("a stored blob cannot be read", digest=str(blob.digest), reason=seen.unreadable)
            return Checked(blob.digest, blob.size, "unreadable", seen.unreadable)
        self._measures.checked.inc()
        if damage is None:
            return Checked(blob.digest, blob.size, "whole")
        if not await self._recorded(seen):
            return Checked(blob.digest, blob.size, "gone")
        event = AuditEvent(
            type="BlobQuarantined",
            severity="error",
            reason=damage.reason,
            resource_type="Blob",
            resource_id=str(blob.digest),
            digest=str(blob.digest),
            size=blob.size,
        )
        await self._audit.note(event)
        await self._registry.quarantine(blob.digest, damage.reason)
        self._measures.damaged.inc()
        self._log.error("a stored blob is damaged and in quarantine", digest=str(blob.digest), reason=damage.reason)
        return Checked(blob.digest, blob.size, "damaged", damage.reason)

    async def _recorded(self, seen: _Seen) -> bool:
        async for blob in self._registry.stored_blobs(seen.before):
            return blob.digest == seen.blob.digest
        return False


def _text(error: Unavailable) -> str:
    reason = error.detail.get("reason")
    return f"{error.message}: {reason}" if reason else error.message
