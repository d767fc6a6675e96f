"""Clients of other makes, against a real server: a browser, qh3, and quic-go whose network changes."""

import asyncio
import base64
import hashlib
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drift_quic_aioquic.client import connect as connect_by_aioquic
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3Connection
from qh3.h3.events import DataReceived, HeadersReceived
from qh3.quic.configuration import QuicConfiguration
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.clients.image_layout import ImageLayout
from tests.clients.registry_api import RegistryApi
from tests.oci.content import Blob, unique_blob
from tests.tools import tool

from .conftest import HOST, ask
from .gateway_process import client, command
from .real_server import Both

PATIENCE = 60.0
NAVIGATION = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
FETCH = """
const [path, headers, done] = arguments;
fetch(path, {headers, cache: "no-store"}).then(async (answer) => {
  const content = await answer.arrayBuffer();
  const state = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const entries = performance.getEntriesByName(new URL(path, location.href).href);
  done([answer.status, content.byteLength, Array.from(state, (one) => one.toString(16).padStart(2, "0")).join(""),
        entries[entries.length - 1].nextHopProtocol]);
}, (error) => done([0, 0, String(error), ""]));
"""


@pytest.fixture
def chrome(both: Both, tmp_path: Path) -> Iterator[Chrome]:
    """A browser that speaks QUIC with the server from its first request on, and knows its key."""
    key = x509.load_pem_x509_certificate(both.ca_file.read_bytes()).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    options = ChromeOptions()
    options.binary_location = tool("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'chrome'}",
        "--enable-quic",
        f"--origin-to-force-quic-on={HOST}:{both.port},{HOST}:{both.ui_port}",
        f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}",
    ):
        options.add_argument(argument)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    driver = Chrome(options=options, service=Service(executable_path=tool("chromedriver"), env=environment))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


def pushed(both: Both, repository: str, folder: Path) -> tuple[str, Blob]:
    """Pushes a small image with the tag v1, and returns the digest of its manifest and a blob of some size."""
    layout = ImageLayout(folder)
    root = layout.add_multi_platform(3)
    layout.tag(root)
    RegistryApi(both.server.host).put_content(repository, "v1", layout)
    blob = unique_blob(1_500_000)
    both.push(repository, blob)
    return str(root["digest"]), blob


def test_a_browser(both: Both, chrome: Chrome, tmp_path: Path) -> None:
    digest, blob = pushed(both, "browser/image", tmp_path / "image")
    chrome.get(f"https://{HOST}:{both.port}/health")
    assert "ok" in chrome.page_source.lower() or "healthy" in chrome.page_source.lower()
    path = f"/v2/browser/image/blobs/{blob.digest}"
    wanted: list[tuple[dict[str, str], int, bytes]] = [
        ({}, 200, blob.content),
        ({"range": "bytes=500000-999999"}, 206, blob.content[500_000:1_000_000]),
    ]
    for headers, status, content in wanted:
        found = chrome.execute_async_script(FETCH, path, headers)
        assert found == [status, len(content), hashlib.sha256(content).hexdigest(), "h3"]
    accept = {"accept": "application/vnd.oci.image.index.v1+json"}
    status, _, sha256, over = chrome.execute_async_script(FETCH, "/v2/browser/image/manifests/v1", accept)
    assert (status, f"sha256:{sha256}", over) == (200, digest, "h3")
    assert chrome.execute_script(NAVIGATION) == "h3"
    chrome.get(f"https://{HOST}:{both.ui_port}/repositories")
    assert "browser/image" in chrome.page_source
    assert chrome.execute_script(NAVIGATION) == "h3"


class Asking(QuicConnectionProtocol):
    """qh3's client, with requests."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._http = H3Connection(self._quic)
        self._answers: dict[int, tuple[asyncio.Future[None], list[Any]]] = {}

    def quic_event_received(self, event: Any) -> None:
        for found in self._http.handle_event(event):
            if isinstance(found, HeadersReceived | DataReceived) and found.stream_id in self._answers:
                future, events = self._answers[found.stream_id]
                events.append(found)
                if found.stream_ended:
                    future.set_result(None)

    async def ask(self, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        self._http.send_headers(stream, [*head, *headers], end_stream=True)
        self._answers[stream] = asyncio.get_running_loop().create_future(), []
        self.transmit()
        future, events = self._answers[stream]
        await asyncio.wait_for(future, PATIENCE)
        status = next(int(dict(one.headers)[b":status"]) for one in events if isinstance(one, HeadersReceived))
        return status, b"".join(one.data for one in events if isinstance(one, DataReceived))


@pytest.mark.anyio
async def test_qh3(each: Both, tmp_path: Path) -> None:
    digest, blob = pushed(each, "qh3/image", tmp_path / "image")
    # Its TLS takes no authority for the certificate of a server, and ours is both.
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    opening = connect(HOST, each.port, configuration=configuration, create_protocol=Asking)
    async with asyncio.timeout(PATIENCE), opening as client:
        assert isinstance(client, Asking)
        path = f"/v2/qh3/image/blobs/{blob.digest}"
        assert await client.ask(path) == (200, blob.content)
        assert await client.ask(path, (b"range", b"bytes=5-104")) == (206, blob.content[5:105])
        answers = await asyncio.gather(*(client.ask(path, (b"range", b"bytes=%d-%d" % (n, n))) for n in range(50)))
        assert answers == [(206, blob.content[n : n + 1]) for n in range(50)]
        accept = (b"accept", b"application/vnd.oci.image.index.v1+json")
        status, content = await client.ask("/v2/qh3/image/manifests/v1", accept)
        assert (status, f"sha256:{hashlib.sha256(content).hexdigest()}") == (200, digest)
        assert (await client.ask("/v2/qh3/image/manifests/none"))[0] == 404


@pytest.mark.anyio
async def test_the_console(each: Both) -> None:
    """On a port of its own, which answers by TCP announce: quic-go, aioquic and qh3 get the page that TCP gives."""
    address = f"127.0.0.1:{each.server.ui_port}"
    by_tcp = await asyncio.to_thread(httpx.get, f"http://{address}/plugins")
    assert by_tcp.headers["alt-svc"] == f'h3=":{each.ui_port}"; ma=86400'
    assert "drift-quic-aioquic" in by_tcp.text
    (by_quic_go,) = client(each.ca_file, each.ui_port, "-path", "/plugins")
    async with connect_by_aioquic(HOST, each.ui_port, ca_file=str(each.ca_file)) as aioquic:
        by_aioquic = await ask(aioquic, "/plugins")
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    opening = connect(HOST, each.ui_port, configuration=configuration, create_protocol=Asking)
    async with asyncio.timeout(PATIENCE), opening as qh3:
        assert isinstance(qh3, Asking)
        by_qh3 = await qh3.ask("/plugins")
    assert by_quic_go["status"] == by_aioquic[0] == by_qh3[0] == by_tcp.status_code == 200
    for content in (by_aioquic[2], by_qh3[1]):
        assert "drift-quic-aioquic" in content.decode()
    assert by_quic_go["headers"]["Content-Type"] == by_tcp.headers["content-type"]


def test_a_pull_goes_on_from_another_address(each: Both) -> None:
    """quic-go proves a second path and goes on there, in the middle of two layers; each arrives whole."""
    layers = [unique_blob(3_000_000) for _ in range(2)]
    for one in layers:
        each.push("quic/moving", one)
    paths = " ".join(f"/v2/quic/moving/blobs/{one.digest}" for one in layers)
    # Slow enough that the move is in the middle of it.
    arguments = command(each.ca_file, each.port, "-path", paths, "-rate", "1500000", "-move", "500ms")
    began = time.monotonic()
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "moved" in ended.stderr, ended.stderr
    assert time.monotonic() - began > 1
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(one["status"], f"sha256:{one['sha256']}") for one in found] == [(200, one.digest) for one in layers]
