"""Follows what happens to the registry: by its events, and by comparing everything once in a while."""

import asyncio
import re
import time
from functools import partial

from structlog.typing import FilteringBoundLogger

from drift_core.api import Digest, DigestInvalid, Event, LocalRegistry, Records, RegistryError, Unavailable, held_bytes
from drift_ui import indexing
from drift_ui.indexing import BATCH, DAY, Image, examine, is_verified

COMPARE_SECONDS = 1.0 * DAY
LOOK_SECONDS = 2.0
"""Between two looks for repositories whose size is not known."""

RESIZED = 50
"""Repositories whose size is written at a time."""

_ABOUT = re.compile(r"(sha256|sha384|sha512)-([0-9a-f]{64,128})(?:\.[a-z]+)?")
"""Tags that stand for a referrer: of the specification's "Referrers Tag Schema", and of cosign's artifacts."""


class Following:
    """Keeps the tables of lists right. Its own database is the one that every method writes to."""

    def __init__(self, records: Records, log: FilteringBoundLogger) -> None:
        self._records = records
        self._log = log

    async def take(self, registry: LocalRegistry, event: Event) -> None:
        """Takes an event; one that is told again changes nothing."""
        repository, tags = event.repository, list(event.tags)
        if event.action == "manifest.delete" and event.digest is not None:
            gone = partial(indexing.tags_of_digest, repository=repository, digest=event.digest)
            tags += await self._records.read(gone)
        pushed = event.id if event.action == "manifest.push" else None
        by = "" if event.actor is None else event.actor
        await self._look_up(registry, repository, sorted(set(tags)), event.at, by, pushed)
        for subject in _subjects(event):
            verified = await is_verified(registry, repository, subject)
            change = partial(indexing.verify, repository=repository, digest=subject, verified=verified)
            await self._records.write(change)

    async def _look_up(
        self, registry: LocalRegistry, repository: str, tags: list[str], at: float, by: str, event: int | None
    ) -> None:
        """Writes what tags name at this moment, whatever has happened since."""
        for start in range(0, max(1, len(tags)), BATCH):
            await self._look_up_some(registry, repository, tags[start : start + BATCH], at, by, event)

    async def _look_up_some(
        self, registry: LocalRegistry, repository: str, tags: list[str], at: float, by: str, event: int | None
    ) -> None:
        current = await registry.tagged(repository, tags) if tags else {}
        found = [await self._examined(registry, repository, tag, digest, at, by) for tag, digest in current.items()]
        gone = [tag for tag in tags if tag not in current]
        images = [image for image in found if image is not None]
        await self._records.write(
            partial(indexing.keep, repository=repository, found=images, gone=gone, event=event, at=at)
        )

    async def _examined(
        self, registry: LocalRegistry, repository: str, tag: str, digest: Digest, at: float, by: str
    ) -> Image | None:
        try:
            return await examine(registry, repository, tag, digest, at, by)
        except Unavailable:
            raise
        except RegistryError as error:
            # A gate refuses it, or it is gone by now, of which another event tells.
            self._log.info("an image cannot be looked at", repository=repository, tag=tag, reason=error.message)
            return None

    async def work(self, registry: LocalRegistry) -> None:
        """Compares everything when that is due, and looks up sizes; until cancelled."""
        while True:
            try:
                if time.time() - await self._records.read(indexing.compared_at) > COMPARE_SECONDS:
                    await self.compare(registry)
                while await self.resize():
                    pass
            except Unavailable as error:
                self._log.warning("the lists of the console are brought up to date later", reason=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def resize(self) -> int:
        """Writes the size of some repositories, and returns of how many."""
        names = await self._records.read(partial(indexing.stale_names, limit=RESIZED))
        if names:
            sizes = {name: await self._records.read(partial(held_bytes, repository=name)) for name in names}
            today = int(time.time()) // DAY
            await self._records.write(partial(indexing.resize, sizes=sizes, today=today))
        return len(names)

    async def compare(self, registry: LocalRegistry) -> None:
        """Makes the tables what the registry says, repository by repository."""
        began, mended = time.time(), 0
        known = await self._names()
        async for repository in registry.repositories():
            known.discard(repository)
            try:
                mended += await self._compare_one(registry, repository)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - what one repository holds must not keep the others unlisted
                self._log.warning("a repository cannot be compared", repository=repository, reason=str(error))
        for repository in sorted(known):
            await self._records.write(partial(indexing.forget, repository=repository))
            mended += 1
        await self._records.write(partial(indexing.note_compared, at=began))
        self._log.info("the console's lists were compared with the registry", mended=mended)

    async def _names(self) -> set[str]:
        names: set[str] = set()
        after = ""
        while page := await self._records.read(partial(indexing.names_after, after=after)):
            names.update(page)
            after = page[-1]
        return names

    async def _compare_one(self, registry: LocalRegistry, repository: str) -> int:
        known: dict[str, str] = {}
        after = ""
        while page := await self._records.read(partial(indexing.digests_of, repository=repository, after=after)):
            known |= page
            after = max(page)
        new: list[Image] = []
        mended, newest = 0, 0.0
        async for tag in registry.tags(repository):
            newest = max(newest, tag.tagged_at)
            if known.pop(tag.name, None) == tag.digest:
                continue
            image = await self._examined(registry, repository, tag.name, tag.digest, tag.tagged_at, "")
            new += [] if image is None else [image]
            if len(new) == RESIZED:
                await self._records.write(partial(indexing.keep, repository=repository, found=new, gone=(), at=newest))
                mended, new = mended + len(new), []
        # Also of a repository without a tag, which is then known.
        await self._records.write(partial(indexing.keep, repository=repository, found=new, gone=(), at=newest))
        gone = sorted(known)
        for start in range(0, len(gone), BATCH):
            part = gone[start : start + BATCH]
            await self._records.write(partial(indexing.keep, repository=repository, found=(), gone=part, at=newest))
        return mended + len(new) + len(known)


def _subjects(event: Event) -> list[str]:
    """Returns the manifests about which something was said, or is said no more."""
    found = [event.subject] if event.subject else []
    for tag in event.tags:
        about = _ABOUT.fullmatch(tag)
        found += [f"{about[1]}:{about[2]}"] if about else []
    return [digest for digest in dict.fromkeys(found) if _is_digest(digest)]


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except DigestInvalid:
        return False
    return True
