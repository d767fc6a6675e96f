"""A real server whose QUIC has processes of its own, and what a test asks of it."""

import os
from pathlib import Path

import httpx
from msgspec import Struct

from tests.oci.content import OCTETS, Blob
from tests.server import Server

from .gateway_process import client

Files = tuple[Path, Path]
PAGE = os.sysconf("SC_PAGE_SIZE")


class Both(Struct):
    """A server, the ports on which it speaks QUIC, and who vouches for its certificate; ``ui_port`` has the console."""

    server: Server
    port: int
    ui_port: int
    ca_file: Path

    def quic(self, *arguments: str) -> list[dict[str, object]]:
        return client(self.ca_file, self.port, *arguments)

    def get(self, path: str) -> dict[str, object]:
        return dict(httpx.get(f"{self.server.url}/api/quic/{path}").raise_for_status().json())

    def push(self, repository: str, blob: Blob) -> None:
        url = f"{self.server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
        assert httpx.post(url, content=blob.content, headers={"content-type": OCTETS}).status_code == 201


def settings(port: int, files: Files, *more: str) -> tuple[str, ...]:
    paths = f"quic.cert_path={files[0]}", f"quic.key_path={files[1]}"
    return "quic.enabled=true", f"quic.bind_addr=127.0.0.1:{port}", *paths, *more


def resident(process: int) -> int:
    """Returns the bytes of a process that are in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
