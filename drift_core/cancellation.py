"""Tells whether a task was cancelled, or a plugin raised `asyncio.CancelledError` by itself: that is its failure."""

import asyncio


def cancelled() -> bool:
    """Returns whether somebody wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
