"""Keeps a process within its limits, and behind every other one."""

import ctypes
import os
import resource
import signal
import sys

from drift_optimize.forms.refusal import Refused

PROGRAM_BYTES = 28 << 20
"""Bytes of memory for the program itself, which RLIMIT_DATA does not count: the interpreter's and libraries' files."""

_PR_SET_PDEATHSIG = 1
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_IDLE = 3 << 13


def confine(parent: int, memory: int, output: int) -> None:
    """Bounds memory and each file, both in bytes; ends with ``parent``; gives way to all other work.

    Raises `Refused` where the parent has ended.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    data = max(memory - PROGRAM_BYTES, PROGRAM_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    if sys.platform == "linux":
        _follow(parent)
        _give_way()


def _follow(parent: int) -> None:
    """Has the kernel kill this process when its parent ends; the end of its input would be noticed only at a read."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise Refused("failed", "the server has ended")


def _give_way() -> None:
    """Runs and reads only where nobody else wants to; a system that knows no such thing just does not."""
    os.nice(19)
    for policy in (os.SCHED_IDLE, os.SCHED_BATCH):
        try:
            os.sched_setscheduler(0, policy, os.sched_param(0))
            break
        except OSError:
            continue
    if (call := _IOPRIO_SET.get(os.uname().machine)) is not None:
        ctypes.CDLL(None).syscall(call, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)
