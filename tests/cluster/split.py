"""A network namespace for one node, with one cable to the database and another to everything else.

The cables end in relays on this side, since the services listen on loopback only. To pull the first cable is a split:
packets vanish, and nobody is told.
"""

import itertools
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.server import free_port
from tests.tools import tool, unavailable

_serial = itertools.count(os.getpid() % 200)


def _ip(*arguments: str) -> None:
    done = subprocess.run([tool("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"a network namespace cannot be made here: ip {' '.join(arguments)}: {done.stderr.strip()}")


RELAYS = """
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen database
    bind {database}
    server database 127.0.0.1:{database_port}
listen storage
    bind {storage}
    server storage 127.0.0.1:{storage_port}
"""


class Island:
    """A namespace while it is entered: the node's ``address`` in it, and those where it finds database and storage."""

    def __init__(self, folder: Path, database_port: int, storage_port: int) -> None:
        number = next(_serial) % 250
        self._folder = folder
        self._ports = database_port, storage_port
        self.name = f"drift-{os.getpid()}-{number}"
        self._cables = f"dd{os.getpid()}n{number}"[-14:], f"ds{os.getpid()}n{number}"[-14:]
        self._outside = f"10.213.{number}.1", f"10.214.{number}.1"
        self._inside = f"10.213.{number}.2", f"10.214.{number}.2"
        self.address = self._inside[1]
        port = free_port()
        self.database = f"{self._outside[0]}:{port}"
        self.storage = f"{self._outside[1]}:{port}"
        self.prefix = ("ip", "netns", "exec", self.name)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            unavailable("only root can make a network namespace")
        with ExitStack() as stack:
            _ip("netns", "add", self.name)
            stack.callback(_ip, "netns", "del", self.name)
            _ip("-n", self.name, "link", "set", "lo", "up")
            for cable, inner, outside, inside in zip(
                self._cables, ("database", "storage"), self._outside, self._inside, strict=True
            ):
                _ip("link", "add", cable, "type", "veth", "peer", "name", inner, "netns", self.name)
                _ip("address", "add", f"{outside}/30", "dev", cable)
                _ip("link", "set", cable, "up")
                _ip("-n", self.name, "address", "add", f"{inside}/30", "dev", inner)
                _ip("-n", self.name, "link", "set", inner, "up")
            relay = self._relay()
            stack.callback(relay.wait)
            stack.callback(relay.terminate)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _relay(self) -> subprocess.Popen[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "relays.cfg"
        database_port, storage_port = self._ports
        config.write_text(
            RELAYS.format(
                database=self.database, storage=self.storage, database_port=database_port, storage_port=storage_port
            )
        )
        return subprocess.Popen([tool("haproxy"), "-db", "-f", str(config)], stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Pulls the cable to the database."""
        _ip("link", "set", self._cables[0], "down")

    def mend(self) -> None:
        """Puts the cable back."""
        _ip("link", "set", self._cables[0], "up")
