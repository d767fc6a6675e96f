"""What counts as the failure of a plugin: also what would end the task or the process, raised by the plugin itself."""

import asyncio

FAILURES = (Exception, asyncio.CancelledError, SystemExit)
"""To be caught around what belongs to a plugin; before anything else, ask whether the task was `cancelled`."""


def cancelled() -> bool:
    """Returns whether somebody wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
