"""A format of signatures: its signer or verifier, opened anew when a file changes that it has read."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from drift_core.errors import StartError, Unavailable
from drift_core.file_state import FileStates, file_states

LOOK_SECONDS = 1.0
"""Between two looks at the files: so long may somebody still be trusted who is not any more."""

RETRY_SECONDS = 10.0
"""After which what could not be opened is tried again though its files are the same."""

ATTEMPTS, TICK_SECONDS = 10, 0.02
"""How often files are read that change meanwhile, and how coarse the clock of a file system may be."""


class ReadsFiles(Protocol):
    """A signer or a verifier."""

    files: Sequence[str]


D = TypeVar("D", bound=ReadsFiles)


class Format(Generic[D]):
    """The driver of a format. For tasks of one loop.

    ``salt`` stands for everything but files that a judgement depends on, such as the configuration.
    """

    def __init__(self, name: str, open_driver: Callable[[], AbstractAsyncContextManager[D]], salt: bytes) -> None:
        self.name = name
        self._open = open_driver
        self._salt = salt
        self._lock = asyncio.Lock()
        self._hosts: list[_Host[D]] = []
        self._stamp: FileStates = ()
        self._trust = ""
        self._looked = 0.0
        self._problem: str | None = None
        self._failed: FileStates = ()
        self._tried = 0.0
        self._log = structlog.get_logger("drift.signing", format=name)

    async def current(self) -> tuple[D, str]:
        """Returns the driver as the files are now, and what stands for all that it depends on.

        Raises:
            Unavailable: a file cannot be used any more; nothing is trusted that was not read as a whole.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            async with self._lock:
                if time.monotonic() - self._looked > LOOK_SECONDS:
                    await self._look()
        if self._problem is not None:
            raise Unavailable("what is trusted cannot be read now", format=self.name, reason=self._problem)
        return self._hosts[-1].driver, self._trust

    @property
    def driver(self) -> D:
        """The driver as it was opened last, whatever the files are now."""
        return self._hosts[-1].driver

    @property
    def fresh_until(self) -> float:
        """When the files are looked at again, by the monotonic clock."""
        return 0.0 if self._problem is not None else self._looked + LOOK_SECONDS

    async def open(self) -> None:
        """Opens the driver. Raises `StartError`."""
        await self._replace()
        self._looked = time.monotonic()

    async def close(self) -> None:
        """Closes the driver."""
        while self._hosts:
            await self._hosts.pop().close()

    async def _look(self) -> None:
        stamp = file_states(self._hosts[-1].driver.files)
        rested = time.monotonic() > self._tried + RETRY_SECONDS
        if stamp != self._stamp if self._problem is None else stamp != self._failed or rested:
            self._failed, self._tried = stamp, time.monotonic()
            try:
                await self._replace()
            except StartError as error:
                if self._problem != str(error):
                    self._log.error("what is trusted cannot be read now, and nothing is", error=str(error))
                self._problem = str(error)
            else:
                self._problem = None
                self._log.info("files have changed and were read", trust=self._trust[:12])
        self._looked = time.monotonic()

    async def _replace(self) -> None:
        """Opens a driver in place of the present one, of files that do not change meanwhile."""
        host = await _Host[D].of(self._open)
        for left in reversed(range(ATTEMPTS)):
            # Which they are only a driver says that has read them.
            files, began, before = host.driver.files, time.time(), file_states(host.driver.files)
            await host.close()
            host = await _Host[D].of(self._open)
            trust = await asyncio.to_thread(_trust, self._salt, files)
            stamp = file_states(host.driver.files)
            just_changed = any(one is not None and one.changed > began - TICK_SECONDS for one in stamp)
            # The clock of another machine's file system may be ahead for ever.
            if stamp == before and not (just_changed and left):
                break
            await asyncio.sleep(TICK_SECONDS)
        else:
            await host.close()
            message = f"the files of the format {self.name} change while they are read"
            raise StartError(message)
        self._hosts.append(host)
        self._stamp, self._trust = stamp, trust
        # Who was asked before the last change has answered by now.
        while len(self._hosts) > 2:  # noqa: PLR2004 - the present one, and the one before
            await self._hosts.pop(0).close()


class _Host(Generic[D]):
    """A task in which a driver is opened and closed: a context that one task enters is not for another to leave."""

    def __init__(self, driver: D, over: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.driver = driver
        self._over = over
        self._task = task

    @classmethod
    async def of(cls, open_driver: Callable[[], AbstractAsyncContextManager[D]]) -> "_Host[D]":
        """Opens a driver. Raises what that raises."""
        opened: asyncio.Future[D] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def run() -> None:
            try:
                async with open_driver() as driver:
                    opened.set_result(driver)
                    await over.wait()
            except Exception as error:
                if opened.done():
                    raise
                opened.set_exception(error)

        task = asyncio.create_task(run())
        try:
            return cls(await asyncio.shield(opened), over, task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def close(self) -> None:
        """Closes the driver. Raises what that raises."""
        self._over.set()
        await self._task


@asynccontextmanager
async def open_format(
    name: str, open_driver: Callable[[], AbstractAsyncContextManager[D]], salt: bytes
) -> AsyncIterator[Format[D]]:
    """Opens a format. Raises `StartError`."""
    opened = Format(name, open_driver, salt)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def _trust(salt: bytes, files: Sequence[str]) -> str:
    """Returns a digest of what the files have, wherever they lie on this node."""
    for file in sorted(files, key=len, reverse=True):
        salt = salt.replace(file.encode(), b"")
    found = sha256(salt)
    for file in files:
        try:
            content = Path(file).read_bytes()
        except OSError:
            content = b""
        found.update(b"%d:" % len(content) + content)
    return found.hexdigest()
