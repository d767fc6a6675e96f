"""What a server and all of its processes have used, as /proc says."""

import os
from collections.abc import Iterator
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def processes(root: int) -> Iterator[int]:
    """Yields a process and everything below it."""
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def cpu_seconds(root: int) -> float:
    """Returns the CPU time in seconds, in user and kernel mode, of all processes that are alive."""
    total = 0
    for process in processes(root):
        # Behind the name in parentheses: proc(5), fields 14 and 15.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK
