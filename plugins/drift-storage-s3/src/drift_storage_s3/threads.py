"""Runs blocking calls in a bounded number of threads, and counts what becomes of them."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from structlog.typing import FilteringBoundLogger

from drift_core.api import RegistryError, Unavailable
from drift_storage_s3.bucket import Missing, UploadGone
from drift_storage_s3.measures import Measures

P = ParamSpec("P")
T = TypeVar("T")

HASHING_THREADS = 2
"""Threads that hash, beside those that wait for the service."""


class Threads:
    """The threads of one store. A call goes on to its end even where nobody waits for it any more."""

    def __init__(self, connections: int, measures: Measures, log: FilteringBoundLogger) -> None:
        self._asking = ThreadPoolExecutor(connections, thread_name_prefix="drift-objects-ask")
        self._hashing = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="drift-objects-hash")
        self._probing = ThreadPoolExecutor(1, thread_name_prefix="drift-objects-probe")
        self._measures = measures
        self._log = log

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Begins a call of the bucket."""
        return self._submit(self._asking, partial(call, *args, **kwargs))

    async def answer(self, operation: str, job: "Future[T]") -> T:
        """Returns what the service answers, and counts it; raises what the call does."""
        began = time.monotonic()
        outcome = "failed"
        try:
            found = await self.result(job)
            outcome = "done"
        except (Missing, UploadGone):
            outcome = "missing"
            raise
        except RegistryError as error:
            self._log.warning("the object service failed", operation=operation, error=error.message)
            raise
        finally:
            self._measures.requests.labels(operation, outcome).inc()
            self._measures.seconds.labels(operation).observe(time.monotonic() - began)
        return found

    async def ask(self, operation: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does a call of the bucket; see `answer`."""
        return await self.answer(operation, self.submit(call, *args, **kwargs))

    async def hash(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does a call that only computes."""
        return await self.result(self._submit(self._hashing, partial(call, *args, **kwargs)))

    async def probe(self, call: Callable[[], T]) -> T:
        """Does a call of the bucket behind no other one."""
        return await self.answer("probe", self._submit(self._probing, call))

    async def result(self, job: "Future[T]") -> T:
        """Waits for a call; if the task is cancelled, the call still ends and what it gives is dropped."""
        waiter = asyncio.wrap_future(job)
        # What a call raises after everybody was cancelled is nobody's, and no news for the log.
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(waiter)

    def _submit(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> "Future[T]":
        try:
            return pool.submit(call)
        except RuntimeError as error:  # shut down
            message = "the store is closed"
            raise Unavailable(message) from error

    def count_retry(self, operation: str) -> None:
        """Counts that a request to the service is made again."""
        self._measures.retries.labels(operation).inc()

    def shut_down(self) -> None:
        """Waits for running calls and ends the threads; blocks."""
        for pool in (self._asking, self._hashing, self._probing):
            pool.shutdown()
