"""Starts a process that looks into a library, within a sandbox and limits, and takes what it says.

The sandbox is bubblewrap's: the process has no network, no other processes, and of the files only those of Python and
this plugin, which it cannot change. The library is a descriptor without a name.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from msgspec import Struct

from drift_bolt.problems import Invalid
from drift_core.api import StartError, Unavailable

MEMORY_BYTES: Final = 512 << 20
CPU_SECONDS: Final = 20
SECONDS: Final = 60.0
"""What one look may take: memory, CPU and time."""
SECONDS_TO_END: Final = 5.0
"""How long it is waited for the end of a process that was killed."""

AT_ONCE: Final = 4
"""Looks of one process of the server at a time; others wait for their turn."""

_START = "import sys; sys.path[:] = sys.argv[1].split(':'); from drift_bolt.confined.child import main; main()"
_ANSWER = 64 << 10
"""Most bytes of an answer."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache")
"""What the interpreter needs of the system to start."""


class Library(Struct, frozen=True):
    """What a file was found to be; ``exports`` is whether it has the function that Bolt calls, None for unknown."""

    system: str
    machine: str
    exports: bool | None

    @property
    def platform(self) -> str:
        """Such as ``linux-x86_64``."""
        return f"{self.system}-{self.machine}"


class _Refused(Struct, frozen=True):
    reason: str


class Looker:
    """Looks into libraries, `AT_ONCE` at a time, each in a process of its own."""

    def __init__(self, *, sandbox: bool) -> None:
        self._before = _sandboxed() if sandbox else ()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def look(self, library: IO[bytes]) -> Library:
        """Returns what a file is. Raises `Invalid` where Bolt could not load it, `Unavailable` where nobody can look.

        Cancelling kills the process.
        """
        async with self._turns:
            return await self._look(library)

    async def _look(self, library: IO[bytes]) -> Library:
        await asyncio.to_thread(library.flush)
        await asyncio.to_thread(library.seek, 0)
        limits = json.dumps({"memory_bytes": MEMORY_BYTES, "seconds": CPU_SECONDS})
        # Without the `site` module, which would take longer than the rest of the start.
        command = (*self._before, sys.executable, "-I", "-S", "-B", "-c", _START, ":".join(_paths()), limits)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=library,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={},
        )
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        try:
            async with asyncio.timeout(SECONDS):
                answer, said = await asyncio.gather(*(_said(stream, process.pid) for stream in streams))
                await process.wait()
        except TimeoutError as error:
            raise Invalid(f"to look into the library takes longer than {SECONDS:g} s") from error
        finally:
            _kill(process.pid)
            await _ended(process, streams)
        if max(len(answer), len(said)) > _ANSWER:
            raise Invalid("the library cannot be looked into: the process says too much")
        return _read(answer, said, process.returncode)


async def _ended(process: asyncio.subprocess.Process, streams: Sequence[asyncio.StreamReader]) -> None:
    """Waits for the end of a process that was killed."""
    try:
        async with asyncio.timeout(SECONDS_TO_END):
            # Of a pipe that nobody reads asyncio does not see the end, and waits for it for ever.
            await asyncio.gather(*(_said(stream, process.pid) for stream in streams))
    except TimeoutError:
        # One that it has started has left its group, and holds the pipes; nothing public closes them.
        transport: asyncio.SubprocessTransport = cast("Any", process)._transport  # noqa: SLF001
        transport.close()
    await process.wait()


async def _said(stream: asyncio.StreamReader, process: int) -> bytes:
    """Returns what a process says, and ends it where that is too much: a library may have taken it over."""
    said = b""
    while chunk := await stream.read(_ANSWER):
        if len(said) <= _ANSWER:
            said += chunk
        else:
            _kill(process)
    return said


def _kill(process: int) -> None:
    """With all that it has started: a sandbox that dies while it is made leaves a child that waits for it."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _read(answer: bytes, said: bytes, code: int | None) -> Library:
    if not answer:
        reason = said.decode(errors="replace").strip().rpartition("\n")[2][:500]
        if (code is not None and code < 0) or code == 128 + 9:
            raise Invalid(f"the library cannot be looked into: the process was ended by signal {code}")
        raise Unavailable(f"libraries cannot be looked into: the process ended with {code}", reason=reason)
    if b'"reason"' in answer:
        raise Invalid(f"the library is not one that Bolt loads: {msgspec.json.decode(answer, type=_Refused).reason}")
    return msgspec.json.decode(answer, type=Library)


def _paths() -> list[str]:
    """Returns where the process finds its modules: this package, pyelftools, and those of Python itself."""
    elftools = find_spec("elftools")
    ours = [str(Path(__file__).resolve().parents[2])]
    theirs = [] if elftools is None or elftools.origin is None else [str(Path(elftools.origin).parents[1])]
    return list(dict.fromkeys([*ours, *theirs, *(part for part in sys.path if part.startswith(sys.base_prefix))]))


def _sandboxed() -> tuple[str, ...]:
    """Returns the sandbox's command. Raises `StartError` where it is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        message = "bolt.enable_plugin_sandbox needs bwrap: install bubblewrap, or write enable_plugin_sandbox = false"
        raise StartError(message)
    python = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent), str(Path(sys.executable).parent)}
    readable = [*_SYSTEM, *sorted(python), *_paths()]
    binds = (part for place in dict.fromkeys(readable) for part in ("--ro-bind-try", place, place))
    alone = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv", "--as-pid-1")
    return (program, *alone, "--proc", "/proc", "--dev", "/dev", *binds)
