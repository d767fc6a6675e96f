"""A PostgreSQL server on a cluster of its own."""

import os
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import psycopg

from tests.services.service import Service
from tests.tools import unavailable

USER = "drift"


def _program(name: str) -> str:
    """Returns a program of the newest PostgreSQL; Debian keeps those of a server out of PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    folders = [*(str(path) for path in reversed(installed)), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        unavailable(f"{name} of PostgreSQL is not installed")
    assert found is not None
    return found


class Postgresql(Service):
    """PostgreSQL with the superuser ``drift``, whom it lets in without a password.

    It refuses to run as root, for whom it runs as postgres. ``fsync`` is for tests that look at what a crash leaves of
    the machine; a crash of the server alone loses nothing without it. ``settings`` are of postgresql.conf.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT
    """A fast shutdown: it ends sessions instead of waiting for them."""

    def __init__(self, *, fsync: bool = False, **settings: str) -> None:
        if os.geteuid() == 0:
            self.user = "postgres"
        self._settings = {
            "fsync": "on" if fsync else "off",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            **settings,
        }
        super().__init__()

    @cached_property
    def _postgres(self) -> str:
        return _program("postgres")

    def command(self) -> list[str]:
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        settings = [f"--{name}={value}" for name, value in (self._settings | {"port": str(self.port)}).items()]
        return [self._postgres, "-D", str(self.data), *settings]

    def _make_cluster(self) -> None:
        command = [_program("initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [*command, f"--username={USER}", f"--pgdata={self.data}"],
            cwd=self.folder,
            user=self.user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def pause(self) -> None:
        """See `Service.pause`; each session is a process in a group of its own."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """See `Service.resume`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.process is not None
        parent = self.process.pid
        # The postmaster first, which starts no session meanwhile.
        os.kill(parent, number)
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            os.kill(int(child), number)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs one statement outside of any transaction and returns its rows."""
        url = f"postgresql://{USER}@{self.address}/{database}"
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def new_database(self) -> str:
        """Makes an empty database and returns its name."""
        name = f"drift_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        """Returns what ``[metadata] url`` needs for a database here."""
        return f"postgresql+psycopg://{USER}@{self.address}/{database}"
