"""Threads of the layer's own, so that a disk that hangs holds up nobody else's."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Some threads that begin what they are given in that order."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"drift-cached-{name}")

    def begin(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begins a call in a thread; once the threads have ended it is done at once, which may block."""
        try:
            return self._pool.submit(call, *args, **kwargs)
        except RuntimeError:
            done: Future[T] = Future()
            done.set_result(call(*args, **kwargs))
            return done

    def after(
        self, before: Future[None] | None, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> Future[None]:
        """Begins a call that does not run before another one, begun earlier, has ended; neither may raise."""

        def both() -> None:
            # That one has a thread already, or this would not.
            if before is not None:
                before.result()
            call(*args, **kwargs)

        return self.begin(both)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what a call in a thread returns; it goes on where the task is cancelled."""
        return await result_of(self.begin(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for what runs, and ends the threads; blocks."""
        self._pool.shutdown()


async def result_of(job: Future[T]) -> T:
    """Returns what a call in a thread returns; what it raises after the task was cancelled is nobody's."""
    waiter = asyncio.wrap_future(job)
    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(waiter)
