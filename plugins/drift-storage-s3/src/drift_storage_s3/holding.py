"""Who writes to an upload: one task at a time, of all processes, which says so every few seconds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from sqlalchemy import Connection
from structlog.typing import FilteringBoundLogger

from drift_core.api import Digest, Records, RegistryError, UploadBusy, UploadId, UploadUnknown
from drift_storage_s3 import garbage, uploads
from drift_storage_s3.tasks import Tasks
from drift_storage_s3.uploads import HOLD_SECONDS, End, Tail, Upload

RENEW_SECONDS = HOLD_SECONDS / 4

KEY_SECONDS = garbage.INTENT_SECONDS / 4
"""How long after it was given out a key may still be written to."""

BUSY_SECONDS = HOLD_SECONDS + 2
"""How long to wait for an upload that another task or process holds, such as one that was killed: few clients retry."""

BUSY_DELAYS = (0.005, 0.2)
"""First and longest pause between two tries, in seconds."""


class Patience:
    """Waits a little longer each time, for `BUSY_SECONDS` in all."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + BUSY_SECONDS
        self._pause, self._longest = BUSY_DELAYS

    async def wait(self) -> None:
        """Returns after a pause. Raises `UploadBusy` where it has waited for long enough."""
        if time.monotonic() >= self._deadline:
            raise UploadBusy
        await asyncio.sleep(self._pause)
        self._pause = min(self._longest, self._pause * 2)


class Hold:
    """One upload as long as it is held; ``upload`` is what is recorded of it. Used by one task at a time."""

    def __init__(self, records: Records, store: str, upload: Upload, token: str, log: FilteringBoundLogger) -> None:
        self._records = records
        self._store = store
        self._token = token
        self._log = log
        self._written = False
        self._released = False
        self._stale_at = time.monotonic() + KEY_SECONDS
        self.upload = upload

    async def change(self, change: Callable[[Connection, str, Upload, str], Upload]) -> None:
        """Changes the records by a function of `uploads`, which gets the store, what is recorded, and the token.

        Raises:
            UploadUnknown: the upload was aborted.
            UploadBusy: another process has taken over.
            Unavailable: the database fails.
        """
        held = self.upload
        self.upload = await self._records.write(lambda db: change(db, self._store, held, self._token), concurrent=True)

    async def new_key(self) -> str:
        """Returns a key that nobody has tried to write to, and that is removed unless it becomes part of something.

        Raises what `change` does.
        """
        if self._written or time.monotonic() > self._stale_at:
            await self.change(lambda db, store, held, token: uploads.next_key(db, store, held.id, token))
            self._stale_at = time.monotonic() + KEY_SECONDS
        self._written = True
        return self.upload.object_key()

    async def put_tail(self, tail: Tail) -> None:
        """Makes an object what is behind the parts. Raises what `change` does."""
        await self.change(lambda db, store, held, token: uploads.put_tail(db, store, held, token, tail))

    async def renew(self) -> None:
        """Holds for longer. Raises what `change` does."""
        lost = await self._records.write(lambda db: uploads.renew(db, self.upload.id, self._token), concurrent=True)
        if lost is not None:
            raise lost

    async def release(
        self, number: int, tail: Tail | None = None, digest: Digest | None = None, *, doubtful: bool = False
    ) -> None:
        """Lets others hold the upload; see `End`. Raises what `change` does."""
        end = End(number, tail, digest, doubtful, unwritten=not self._written)
        self._released = True
        await self.change(lambda db, store, held, token: uploads.release(db, store, held, token, end))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Holds on for as long as the block runs, which ends with what `change` raises once the hold is lost."""
        lost: list[RegistryError] = []

        async def beat(scope: asyncio.Timeout) -> None:
            while not lost:
                await asyncio.sleep(RENEW_SECONDS)
                try:
                    await self.renew()
                except (UploadUnknown, UploadBusy) as error:
                    if self._released:
                        return
                    lost.append(error)
                    scope.reschedule(asyncio.get_running_loop().time())
                except RegistryError as error:
                    # Whatever is written is refused once another one has taken over.
                    self._log.warning("an upload cannot be held on to", upload=self.upload.id, error=error.message)

        try:
            async with asyncio.timeout(None) as scope:
                beating = asyncio.create_task(beat(scope))
                try:
                    yield
                finally:
                    beating.cancel()
        except TimeoutError:
            if lost:
                raise lost[0] from None
            raise


class Holds:
    """Takes hold of the uploads of one store."""

    def __init__(
        self, records: Records, store: str, tasks: Tasks, log: FilteringBoundLogger, *, skipped_numbers: int
    ) -> None:
        self._records = records
        self._store = store
        self._tasks = tasks
        self._log = log
        self._skipped_numbers = skipped_numbers

    async def take(self, upload: UploadId, offset: int | None) -> Hold:
        """Waits for the upload if it has to, and holds it; where it is cancelled nothing is held.

        Raises:
            UploadUnknown: there is no such upload.
            UploadBusy: others held it all the time.
            OffsetMismatch: it ends elsewhere than at ``offset``, unless that is None.
        """
        patience = Patience()
        while True:
            taking = self._tasks.start(self._try(upload, offset))
            try:
                hold = await asyncio.shield(taking)
            except asyncio.CancelledError:
                self._tasks.start(self._give_up(taking))
                raise
            if hold is not None:
                return hold
            await patience.wait()

    async def _try(self, upload: UploadId, offset: int | None) -> Hold | None:
        token = uuid4().hex
        held = await self._records.write(
            lambda db: uploads.hold(db, self._store, upload, offset, token, self._skipped_numbers), concurrent=True
        )
        return None if held is None else Hold(self._records, self._store, held, token, self._log)

    async def _give_up(self, taking: "asyncio.Task[Hold | None]") -> None:
        # What failed is held by nobody; what cannot be released now is free in a few seconds.
        with suppress(RegistryError):
            hold = await taking
            if hold is not None:
                await hold.release(hold.upload.number)
