"""One server process with a free port and a folder of its own, of which nothing is left after the block."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.server import free_port

PATIENCE = 60.0
"""Seconds after which a server that should answer, or be gone, is given up."""


class Service(ABC):
    """Runs while it is entered; its port, folder and content stay the same over `stop`, `kill` and `start`.

    ``user`` is who runs it, None for whoever runs the tests.
    """

    name: str
    user: str | None = None
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"drift-{self.name}-"))
        self.log = self.folder / f"{self.name}.log"
        self.data = self.folder / "data"
        self.data.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            for folder in (self.folder, self.data):
                os.chown(folder, owner.pw_uid, owner.pw_gid)

    @property
    def address(self) -> str:
        """As ``host:port``."""
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def command(self) -> list[str]:
        """Returns the program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Says whether the server can be used."""

    def environment(self) -> dict[str, str]:
        """Returns what the process finds set."""
        return dict(os.environ)

    def start(self) -> None:
        """Returns when the server can be used."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
                extra_groups=None if self.user is None else [],
            )
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the server in order."""
        family = self._family()
        assert self.process is not None
        self.process.send_signal(self.stop_signal)
        self._gone(family)

    def kill(self) -> None:
        """Ends the server, and all of its processes, by SIGKILL."""
        self._gone(self._signal(signal.SIGKILL))

    def restart(self) -> None:
        """Stops in order and starts again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Lets nothing of the server run, while its connections stay open, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def _signal(self, number: signal.Signals) -> list[int]:
        """Signals the process and those below it, which may have a group of their own, and returns them."""
        family = self._family()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return family

    def _family(self) -> list[int]:
        assert self.process is not None
        family = [self.process.pid]
        for pid in family:
            with suppress(FileNotFoundError, ProcessLookupError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    family += [int(child) for child in (task / "children").read_text().split()]
        return family

    def _gone(self, family: list[int]) -> None:
        """Returns when none of these processes is left."""
        assert self.process is not None
        self.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(_runs(pid) for pid in family):
            assert time.monotonic() < deadline, f"processes of {self.name} are left"
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
