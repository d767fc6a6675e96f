"""Machines on a network of their own, made of namespaces: each has its addresses and its files, and no other's."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from tests.tools import ROOT, TOOLS, tool, unavailable

PATIENCE = 120.0
"""Seconds after which something counts as never happening."""

OWN = ("/etc", "/opt", "/root", "/run", "/srv", "/usr/local", "/var")
"""Folders in which a machine begins with the files of this one, and keeps what it changes to itself."""


class Network:
    """A switch with machines, while it is entered; they reach each other, and nothing else. Needs root on Linux."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._switch: subprocess.Popen[str] | None = None
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        if sys.platform != "linux" or os.geteuid() != 0:
            unavailable("network namespaces need root on Linux")
        self._switch = self._stack.enter_context(namespaces("ip link add switch type bridge; ip link set switch up"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def machine(self, name: str, *addresses: str) -> "Machine":
        """Adds a machine; an address is as ``10.0.0.1/24``."""
        assert self._switch is not None
        number = len(self.machines)
        machine = Machine(name, addresses, self._folder / name)
        self._stack.enter_context(machine)
        inside = " ".join(f"ip address add {address} dev eth0;" for address in addresses)
        enter(
            self._switch.pid,
            f"ip link add port{number} type veth peer name eth0 netns {machine.pid}"
            f" && ip link set port{number} master switch up",
        )
        enter(machine.pid, f"{inside} ip link set eth0 up")
        self.machines.append(machine)
        return machine

    def name(self, *whom: "Machine") -> None:
        """Tells machines, or every one where none is given, by which names they find each other now."""
        lines = [f"{address.partition('/')[0]} {one.name}" for one in self.machines for address in one.addresses]
        for machine in whom or self.machines:
            machine.write("/etc/hosts", "\n".join(["127.0.0.1 localhost", *lines, ""]))


class Machine:
    """One host: programs that are started on it see its network and its files; all end when it ends."""

    def __init__(self, name: str, addresses: Sequence[str], folder: Path) -> None:
        self.name = name
        self.addresses = tuple(addresses)
        self.folder = folder
        self._stack = ExitStack()
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        mounts = []
        for own in OWN:
            upper, work = (self.folder / part / own.strip("/") for part in ("changes", "work"))
            for folder in (upper, work):
                folder.mkdir(parents=True)
            # What Python runs from may lie in root's home, and the users of this machine run it, too.
            upper.chmod(0o755)
            mounts.append(f"mount -t overlay -o lowerdir={own},upperdir={upper},workdir={work} overlay {own}")
        self._holder = self._stack.enter_context(namespaces(" && ".join([*mounts, "ip link set lo up"])))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The process that keeps the namespaces."""
        assert self._holder is not None
        return self._holder.pid

    def move(self, address: str) -> None:
        """Gives the machine one other address in place of those that it has."""
        enter(self.pid, f"ip address flush dev eth0 && ip address add {address} dev eth0")
        self.addresses = (address,)

    def path(self, path: str) -> Path:
        """Returns where a file of the machine is seen from this one."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Writes a file of the machine, within the folders that are its `OWN`."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)

    def freeze(self, *writable: str) -> None:
        """Makes every file read-only but those in folders that are named, and in /tmp, which is empty and new."""
        kept = [f"mount --bind {shlex.quote(folder)} {shlex.quote(folder)}" for folder in writable]
        closed = [f"mount -o remount,ro,bind {own}" for own in (*OWN, "/")]
        # What the machine runs from may lie in a /tmp that it must not see.
        source = shlex.quote(str(ROOT))
        again = f"mkdir -p {source} && mount --no-canonicalize --bind /proc/self/fd/9 {source}"
        temporary = [
            f"exec 9<{source}",
            "mount -t tmpfs -o mode=1777 tmpfs /tmp",
            f"{{ test -d {source} || {{ {again}; }}; }}",
        ]
        enter(self.pid, " && ".join([*kept, *closed, *temporary]))

    def run(self, *command: str, user: str | None = None, said: str = "", **environment: str) -> str:
        """Runs a program to its end, and returns what it said. Fails where it ends with anything but 0.

        ``user`` is a number or a name; None is root. ``said`` is what it reads.
        """
        ended = subprocess.run(
            self._command(command, user),
            env=_environment(environment),
            input=said.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        text = ended.stdout.decode(errors="replace")
        assert ended.returncode == 0, f"{shlex.join(command)} on {self.name} ended with {ended.returncode}:\n{text}"
        return text

    def start(
        self, *command: str, user: str | None = None, ends_by: int = signal.SIGTERM, **environment: str
    ) -> "Program":
        """Starts a program that ends with the machine at the latest, by a signal that it takes for a quick end."""
        log = self.folder / f"{Path(command[0]).name}.log"
        program = Program(self._command(command, user), _environment(environment), log, ends_by)
        return self._stack.enter_context(program)

    def _command(self, command: Sequence[str], user: str | None) -> list[str]:
        identity = ["--regid", user, "--clear-groups", "--reuid", user] if user else []
        bounds = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"] if user else []
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", "setpriv", *identity, *bounds, *command]


class Program:
    """A program of a machine, while it is entered, and what it has said."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, ends_by: int) -> None:
        self._command = command
        self._environment = environment
        self._ends_by = ends_by
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self._ends_by)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self) -> int:
        """Asks with SIGTERM and returns the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


def namespaces(prepare: str) -> "Holder":
    """Keeps a network and a mount namespace, prepared by shell commands, for as long as it is entered."""
    return Holder(prepare)


class Holder:
    """A process that keeps namespaces until its standard input ends, so at the latest when this process does."""

    def __init__(self, prepare: str) -> None:
        self._prepare = prepare

    def __enter__(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", f"set -e; {self._prepare}; echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the namespaces cannot be made"
        return self._process

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            _close(stream)
        self._process.wait()


def _close(stream: IO[str] | None) -> None:
    assert stream is not None
    stream.close()


def enter(pid: int, commands: str) -> None:
    """Runs shell commands in the namespaces that a process keeps. Raises CalledProcessError."""
    subprocess.run(["nsenter", f"--target={pid}", "--net", "--mount", "sh", "-c", commands], check=True)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": f"{TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **own}


def await_answer(machine: Machine, url: str, program: Program | None = None, trust: str | None = None) -> None:
    """Waits until a request from a machine is answered with success, or fails when the program behind it has ended.

    ``trust`` is a file of certificates that are believed in place of those of the machine.
    """
    deadline = time.monotonic() + PATIENCE
    ca = ["--cacert", trust] if trust else []
    command = [tool("curl"), "--silent", "--show-error", "--fail", "--max-time", "5", *ca, url]
    while True:
        try:
            machine.run(*command)
        except AssertionError:
            said = program.log.read_text()[-2000:] if program else ""
            assert program is None or program.process.poll() is None, said
            assert time.monotonic() < deadline, f"{url} does not answer {machine.name}\n{said}"
            time.sleep(0.1)
        else:
            return
