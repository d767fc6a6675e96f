"""A registry of four methods over blobs in memory, which can be damaged, lost, removed or kept from whoever reads."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from drift_scrub.config import ScrubConfig
from drift_scrub.scrub import Scrub, open_scrub

from drift_core.api import BlobStat, BlobUnknown, Digest, Quarantined, Records, Unavailable
from drift_core.conformance import MemoryAuditor, Trail, open_records, services

OpenScrub = Callable[..., AbstractAsyncContextManager[Scrub]]


class Shelf:
    """What a scrub uses of `LocalRegistry`.

    ``recorded`` is what the database says, ``stored`` what the store has. ``before_read`` is called with each digest
    before its bytes are given out; ``reads`` are the digests in the order in which they were asked for.
    """

    def __init__(self, *contents: bytes) -> None:
        self.stored = {Digest.of(content): content for content in contents}
        self.recorded = {digest: len(content) for digest, content in self.stored.items()}
        self.quarantine_reasons: dict[Digest, str] = {}
        self.silent: dict[Digest, int] = {}
        self.reads: list[Digest] = []
        self.before_read: Callable[[Digest], None] = lambda _: None

    @property
    def digests(self) -> list[Digest]:
        return sorted(self.recorded)

    async def stored_blobs(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        place = after or ""
        while True:
            rest = [one for one in self.recorded if one > place and one not in self.quarantine_reasons]
            if not rest:
                return
            place = min(rest)
            yield BlobStat(Digest(place), self.recorded[Digest(place)], 0.0)

    async def stored_bytes(self, digest: Digest) -> AsyncIterator[bytes]:
        self.reads.append(digest)
        self.before_read(digest)
        if self.silent.get(digest, 0):
            self.silent[digest] -= 1
            raise Unavailable("the store does not answer", reason="a test")
        if digest not in self.stored:
            raise BlobUnknown(digest=digest)
        content = self.stored[digest]
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    async def quarantine(self, digest: Digest, reason: str) -> None:
        self.quarantine_reasons[digest] = reason

    async def quarantined(self) -> AsyncIterator[Quarantined]:
        for digest, reason in sorted(self.quarantine_reasons.items()):
            yield Quarantined(digest, 0.0, reason)


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("scrub", "drift_scrub.migrations", database_url) as records:
        yield records


@pytest.fixture
def kept() -> MemoryAuditor:
    return MemoryAuditor()


@pytest.fixture
def open_feature(records: Records, kept: MemoryAuditor) -> OpenScrub:
    """Returns a function that opens the feature as a server would, without a limit unless ``keys`` have one."""

    def opened(**keys: Any) -> AbstractAsyncContextManager[Scrub]:
        config = ScrubConfig(**{"enabled": True, "rate_mb_per_second": 0, **keys})
        return open_scrub(config, services("scrub", records=records, audit=Trail([kept])))

    return opened
