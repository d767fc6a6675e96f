"""Runs the program in ``gateway``: quic-go as a client, and between clients of HTTP/1.1 and a server of HTTP/3."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server import free_port
from tests.tools import tool

PROGRAM = "quic-gateway"
PATIENCE = 120.0


def command(ca_file: Path | str, port: int, *arguments: str) -> list[str]:
    """Returns how to start the program for the server on a port of UDP."""
    return [tool(PROGRAM), "-ca", str(ca_file), "-target", f"127.0.0.1:{port}", *arguments]


@contextmanager
def gateway(ca_file: Path | str, port: int, address: str | None = None) -> Iterator[str]:
    """Yields the address ``host:port`` at which the server on the UDP port speaks HTTP/1.1."""
    address = address or f"127.0.0.1:{free_port()}"
    with subprocess.Popen(command(ca_file, port, "-listen", address), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening")
        try:
            yield address
        finally:
            process.kill()


def client(ca_file: Path | str, port: int, *arguments: str) -> list[dict[str, Any]]:
    """Runs the client, and returns what came of each request."""
    began = time.monotonic()
    ended = subprocess.run(
        command(ca_file, port, *arguments), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines, f"{ended.stderr} after {time.monotonic() - began:.0f} s"
    return lines
