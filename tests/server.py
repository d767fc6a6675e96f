"""Starts a real `drift serve` on free ports with a folder of its own, and stops, kills or restarts it."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.tools import ROOT

DRIFT = Path(sys.executable).parent / "drift"


_kept: list[socket.socket] = []


def free_port() -> int:
    """Returns a port that nobody else gets while the tests run; whoever listens there must set SO_REUSEADDR."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    keeper.bind(("127.0.0.1", 0))
    _kept.append(keeper)
    return int(keeper.getsockname()[1])


class Server:
    """One `drift serve` process tree, in a process group of its own; with a certificate and its key it speaks TLS."""

    cwd = ROOT

    def __init__(
        self,
        folder: Path,
        *settings: str,
        config: Path | None = None,
        workers: int = 2,
        tls: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = free_port()
        self.ui_port = free_port()
        self.host = f"{address}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._trust = ssl.create_default_context(cafile=tls[0]) if tls else None
        self.log = folder / "drift.log"
        self.config = config
        self.settings = [
            f"server.bind_addr={self.host}",
            f"server.ui_addr=127.0.0.1:{self.ui_port}",
            f"server.workers={workers}",
            f"storage.path={folder / 'data'}",
            *([f"tls.cert_file={tls[0]}", f"tls.key_file={tls[1]}"] if tls else []),
            *settings,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        config = ["--config", str(self.config)] if self.config else []
        return [*config, *(part for setting in self.settings for part in ("--set", setting))]

    def command(self) -> list[str]:
        return [str(DRIFT), "serve", *self.arguments()]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self, timeout: float = 30.0) -> Self:
        """Starts the server and returns when `/readyz` answers 200; `timeout` is in seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.cwd,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"drift serve ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=self._trust) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise TimeoutError(f"drift serve was not ready after {timeout} s:\n{self.log.read_text()[-4000:]}")

    def stop(self, timeout: float = 30.0) -> int:
        """Asks with SIGTERM, waits for the drain, and returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a power cut would; returns when nothing of it is left."""
        assert self.process is not None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()
        while True:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)

    def workers(self) -> list[int]:
        """The process ids of the workers: the children of the supervisor that serve."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [
            int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
