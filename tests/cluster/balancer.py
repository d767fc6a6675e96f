"""HAProxy before several nodes: each request goes to the next of those that say they are ready."""

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from tests.server import Server, free_port
from tests.tools import tool

SERVED_BY = "x-served-by"
"""The header in which the balancer names the node that answered."""

BUSY = json.dumps({"errors": [{"code": "UNAVAILABLE", "message": "no node is ready", "detail": {}}]})

CONFIG = """
global
    maxconn 4000
    nbthread 1
    stats socket {folder}/control mode 600 level admin
defaults
    mode http
    log global
    maxconn 4000
    timeout connect 2s
    timeout client 120s
    timeout server 120s
    timeout check 5s
    timeout queue 5s
    retries 3
    # Only what no node has seen is sent again: a push may have happened though its answer was lost.
    retry-on conn-failure
    option redispatch 1
    option http-server-close
    http-reuse never
    default-server inter 1s fastinter 500ms fall 2 rise 1
frontend registry
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr host localhost
    http-check expect status 200
    http-response set-header {served_by} %s
{errors}
{servers}
"""

ERROR = """
    http-error status {status} content-type "application/json" string '{busy}' \
        hdr retry-after 1 hdr docker-distribution-api-version registry/2.0 hdr x-request-id %[uuid()]
"""


class Balancer:
    """Listens on ``host`` while it is entered; has the form of a `Server` for those who only ask."""

    def __init__(self, folder: Path, nodes: Sequence[Server]) -> None:
        self._folder = folder
        self._nodes = nodes
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Starts, and returns when it answers; nodes that are down are out within a second."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "haproxy.cfg"
        config.write_text(
            CONFIG.format(
                folder=self._folder,
                port=self.port,
                served_by=SERVED_BY,
                errors="".join(ERROR.format(status=status, busy=BUSY) for status in (502, 503, 504)),
                servers="\n".join(f"    server {node.folder.name} {node.host} check" for node in self._nodes),
            )
        )
        with (self._folder / "haproxy.log").open("ab") as log:
            self._process = subprocess.Popen([tool("haproxy"), "-db", "-f", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "haproxy.log").read_text()
            assert time.monotonic() < deadline, "HAProxy does not answer"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def standing(self) -> dict[str, bool]:
        """Returns for each node, by name, whether requests are sent to it."""
        rows = self._control("show stat nodes 4 -1").splitlines()
        names = rows[0].removeprefix("# ").split(",")
        entries = (dict(zip(names, row.split(","), strict=False)) for row in rows[1:] if row)
        return {entry["svname"]: entry["status"].startswith("UP") for entry in entries}

    def _control(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self._folder / "control"))
            control.sendall(f"{command}\n".encode())
            answer = b""
            while piece := control.recv(65536):
                answer += piece
        return answer.decode()
