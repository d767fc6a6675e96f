"""Runs blocking calls in threads, in order of submission; where it matters, to their end despite a cancellation."""

import asyncio
import errno
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from structlog.typing import FilteringBoundLogger

from drift_core.api import RegistryError, StorageFull, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

SETTLE_SECONDS = 10.0
"""Longest time that a cancelled task waits for its last bytes to be written; the thread then ends by itself."""


def _waiter(job: Future[T]) -> asyncio.Future[T]:
    """Makes a call awaitable; what it raises after everybody was cancelled is nobody's, and no news for the log."""
    waiter = asyncio.wrap_future(job)
    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
    return waiter


class Jobs:
    """A pool of threads of its own; what they raise comes back as an error that a client may see."""

    def __init__(self, name: str, threads: int, log: FilteringBoundLogger) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"drift-fs-{name}")
        self._log = log

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Starts a call in a thread, not before those submitted earlier have been started."""
        try:
            return self._pool.submit(call, *args, **kwargs)
        except RuntimeError as error:  # shut down
            message = "the store is closed"
            raise Unavailable(message) from error

    def submit_last(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `submit`, for a call that releases something and must happen even when the store was closed."""
        try:
            return self._pool.submit(call, *args, **kwargs)
        except RuntimeError:
            done: Future[T] = Future()
            try:
                done.set_result(call(*args, **kwargs))  # blocks the loop, which at this point serves nobody any more
            except Exception as error:  # noqa: BLE001  (goes to whoever asks the future)
                done.set_exception(error)
            return done

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call; if the task is cancelled, the call still ends and its result is dropped."""
        return await self.result(self.submit(call, *args, **kwargs))

    async def result(self, job: Future[T]) -> T:
        """Waits for a call."""
        try:
            return await asyncio.shield(_waiter(job))
        except OSError as error:
            raise self.explain(error) from error

    async def settle(self, job: Future[T], seconds: float = math.inf) -> T:
        """Waits for a call to its end even if the task is cancelled, then for `SETTLE_SECONDS` at most.

        Raises:
            asyncio.CancelledError: the task was cancelled meanwhile.
            TimeoutError: the call goes on behind ``seconds``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        waiter = _waiter(job)
        cancelled: asyncio.CancelledError | None = None
        while not waiter.done() and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait((waiter,), timeout=None if left == math.inf else left)
            except asyncio.CancelledError as error:
                cancelled = error
                deadline = min(deadline, loop.time() + SETTLE_SECONDS)
        if not waiter.done():
            self._log.error("storage hangs", seconds=SETTLE_SECONDS)
        if cancelled is not None:
            raise cancelled
        if not waiter.done():
            raise TimeoutError
        try:
            return waiter.result()
        except OSError as error:
            raise self.explain(error) from error

    def explain(self, error: OSError) -> RegistryError:
        """Logs what the system said, and returns what a client may know of it: no path."""
        code = errno.errorcode.get(error.errno or 0, "?")
        self._log.error("storage failed", code=code, error=str(error))
        if error.errno in FULL:
            return StorageFull()
        return Unavailable(f"the storage failed: {os.strerror(error.errno) if error.errno else 'unknown reason'}")

    def shut_down(self) -> None:
        """Waits for running calls and ends the threads; blocks."""
        self._pool.shutdown()
