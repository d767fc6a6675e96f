"""Where the values of metrics lie: in memory that the processes of a server share, so that each can tell those of all.

A value also outlives the process that counted: a worker that dies takes nothing of it away.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import multiprocess, values
from prometheus_client.metrics_core import Metric

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client knows that several processes count."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder in it that nobody else may read is used
"""Not a disk: on a full one, writing to a file that is mapped ends the process."""

_OURS = re.compile(r"drift-metrics-(\d+)-.+")


@contextmanager
def shared_values() -> Iterator[None]:
    """Lets the processes that are forked in the block share what they count, of metrics that are made in it.

    What a server has left that was killed is removed.
    """
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_left(place)
    folder = tempfile.mkdtemp(prefix=f"drift-metrics-{os.getpid()}-", dir=place)
    before, values.ValueClass = values.ValueClass, values.MultiProcessValue()  # type: ignore[no-untyped-call]
    os.environ[_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[_FOLDER]
        values.ValueClass = before
        shutil.rmtree(folder)


def are_shared() -> bool:
    """Says whether metrics that are made now are counted by several processes."""
    return _FOLDER in os.environ


def of_all_processes() -> Iterable[Metric]:
    """Returns what all processes have counted so far, with those that have ended. Blocks for some milliseconds."""
    found: Iterable[Metric] = multiprocess.MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
    return found


def forget_state(process: int) -> None:
    """Forgets the gauges that say how things are in a process, such as open connections: it has ended."""
    if are_shared():
        multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


def _remove_left(place: Path) -> None:
    for folder in place.iterdir():
        owner = _OURS.fullmatch(folder.name)
        if owner and not Path(f"/proc/{owner[1]}").exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
