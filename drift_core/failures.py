"""What counts as the failure of a plugin: whatever it raises, but for what somebody else wants to end."""

import asyncio
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TooSlowError(Exception):
    """A plugin did not answer in time."""


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """Returns what a plugin answers, and lets out what it raises.

    Raises:
        TooSlowError: it took longer than ``seconds``, also where it swallowed the cancellation and answered late.
        asyncio.CancelledError: the task is to end, and the plugin has swallowed that.
    """
    begun = answer.__await__()
    try:
        # Most gates answer without waiting, and a clock for them would cost more than they do.
        waits = next(begun)
    except StopIteration as done:
        if cancelled():
            raise asyncio.CancelledError from None
        found: T = done.value
        return found
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            answered = await _Begun(begun, waits)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TooSlowError from error
    if cancelled():
        raise asyncio.CancelledError
    if limit.expired():
        raise TooSlowError
    return answered


class _Begun(Generic[T]):
    """Goes on with what has begun, and waits for ``waits`` (PEP 492, "Await Expression")."""

    def __init__(self, begun: Generator[Any, Any, T], waits: object) -> None:
        self._begun = begun
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, T]:
        waits = self._waits
        while True:
            try:
                sent = yield waits
            except BaseException as error:  # noqa: BLE001 - it is for what has begun
                step = partial(self._begun.throw, error)
            else:
                step = partial(self._begun.send, sent)
            try:
                waits = step()
            except StopIteration as done:
                answered: T = done.value
                return answered


def cancelled() -> bool:
    """Returns whether somebody wants the running task to end; where no task runs, nobody does."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def is_failure(error: BaseException) -> bool:
    """Tells a failure from an interrupt and from the end of the running task.

    A plugin may raise `SystemExit` or `asyncio.CancelledError` by itself, and a library of Rust what is no `Exception`.
    """
    return not isinstance(error, KeyboardInterrupt | GeneratorExit) and not cancelled()
