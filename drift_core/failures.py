"""What counts as the failure of a plugin: whatever it raises, but for what somebody else wants to end."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class TooSlowError(Exception):
    """A plugin did not answer in time."""


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """Returns what a plugin answers, and lets out what it raises.

    Raises:
        TooSlowError: it took longer than ``seconds``, also where it swallowed the cancellation and answered late.
        asyncio.CancelledError: the task is to end, and the plugin has swallowed that.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            answered = await answer
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TooSlowError from error
    if cancelled():
        raise asyncio.CancelledError
    if limit.expired():
        raise TooSlowError
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
