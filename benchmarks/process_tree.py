"""What a server and all of its processes use, as /proc says."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

TICK = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.1


def processes(root: int) -> Iterator[int]:
    """Yields a process and everything below it."""
    yield root
    try:
        tasks = list(Path(f"/proc/{root}/task").iterdir())
    except FileNotFoundError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from processes(int(child))


def cpu_seconds(root: int) -> float:
    """Returns the CPU time in seconds, in user and kernel mode, of all processes that are alive."""
    total = 0
    for process in processes(root):
        try:
            # Behind the name in parentheses: proc(5), fields 14 and 15.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory(root: int) -> int:
    """Returns the bytes in memory, of what processes share each one's part (Pss)."""
    total = 0
    for process in processes(root):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class Peak:
    """Samples the memory of a process tree while the block runs; ``bytes`` is the most that was seen."""

    def __init__(self, root: int) -> None:
        self.bytes = 0
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        over = False
        while not over:
            over = self._over.wait(SAMPLE_SECONDS)
            self.bytes = max(self.bytes, memory(self._root))
