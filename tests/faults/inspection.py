"""Looks at a server from outside: its processes in /proc, the files in its folder, and what `drift fsck` says."""

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server import DRIFT, Server
from tests.tools import ROOT

PATIENCE = 120.0
"""Seconds after which something that must happen has not happened, on a machine as slow as they come."""

MIB = 1 << 20

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def eventually(happened: Callable[[], bool], what: str) -> None:
    """Waits until something has happened, and fails naming it where it does not."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"in {PATIENCE} s not seen: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Says whether anything of a process is left: a thread that still ends keeps its sockets open, too."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in {"Z", "X"} or len(list((process / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_files(pid: int) -> int:
    """Returns how many descriptors a process holds."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident(pid: int, *, peak: bool = False) -> int:
    """Returns the bytes of memory that a process holds now, or the most that it ever held."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def listeners(port: int) -> int:
    """Returns how many sockets listen on a port of this machine."""
    return _states("tcp", port).count(LISTEN)


def bound(port: int) -> int:
    """Returns how many sockets of UDP have a port of this machine."""
    return len(_states("udp", port))


def _states(protocol: str, port: int) -> list[str]:
    """Returns the state of each socket that has a port, as the kernel writes it."""
    rows = [line.split() for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]]
    return [row[3] for row in rows if int(row[1].partition(":")[2], 16) == port]


def all_listen(server: Server, workers: int = 2) -> bool:
    """Says whether every worker of a server accepts connections."""
    return listeners(server.port) == workers and len(server.workers()) == workers


@dataclass(frozen=True)
class Report:
    """What one run of `drift fsck` said: the exit code, and each finding as it was printed."""

    code: int
    findings: list[dict[str, Any]]

    def kinds(self) -> list[str]:
        """Returns the kinds of all findings, in order."""
        return sorted(finding["kind"] for finding in self.findings)

    @property
    def clean(self) -> bool:
        return self.code == 0 and not self.findings


def fsck(server: Server, *options: str) -> Report:
    """Runs `drift fsck --json` with the configuration of a server, which may be running or not."""
    command = [str(DRIFT), "fsck", "--json", *options, *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return Report(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


def refused(server: Server) -> str:
    """Starts a server that must refuse, and returns its one message."""
    command = [str(DRIFT), "serve", *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    messages = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(messages) == 1, done.stderr
    return messages[0]


def blob_file(data: Path, digest: str) -> Path:
    """Returns where the filesystem driver keeps a blob."""
    algorithm, _, encoded = digest.partition(":")
    return data / "blobs" / algorithm / encoded[:2] / encoded


def blob_files(data: Path) -> list[Path]:
    """Returns every file in the place of a committed blob."""
    return [path for path in (data / "blobs").glob("*/*/*") if path.is_file()]


def uploads_on_disk(data: Path) -> set[str]:
    """Returns the ids of the uploads that have a file."""
    return {path.name for path in (data / "uploads").iterdir() if path.suffix == "" and not path.name.startswith(".")}


def is_whole(path: Path) -> bool:
    """Says whether the file of a blob has the bytes that its name promises."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, path.parent.parent.name).hexdigest() == path.name


def tracebacks_in_log(server: Server) -> list[str]:
    """Returns the lines that tell of an exception that nobody expected."""
    marks = ("Traceback", "request failed")
    return [line for line in server.log.read_text().splitlines() if any(mark in line for mark in marks)]


def answers_in_log(server: Server, path: str) -> list[int]:
    """Returns the statuses with which requests to a path ended, as the access log has them."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line["status"] for line in lines if line["event"] == "request" and line["path"] == path]


def errors_in_log(server: Server) -> list[str]:
    """Returns the lines that tell of a defect: an unexpected exception, or an answer of 500."""
    return [line for line in server.log.read_text().splitlines() if '"status": 500' in line] + tracebacks_in_log(server)
