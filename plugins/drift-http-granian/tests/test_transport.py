"""Granian keeps the rules of every transport, and what is true of it alone."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from drift_http_granian.config import GranianConfig
from drift_http_granian.transport import open_transport

from drift_core.api import ServerSettings, StartError, Transport
from drift_core.conformance import services
from drift_core.conformance.suites.transport import (
    PATIENCE,
    REQUEST,
    Application,
    OpenTransport,
    Served,
    TransportSuite,
    ask_until_refused,
    serving,
)
from tests.faults.inspection import eventually
from tests.oci.content import Blob, unique_blob
from tests.server import Server
from tests.tools import tool

H2C = "--http2-prior-knowledge"


def open_with(config: GranianConfig, settings: ServerSettings) -> AbstractAsyncContextManager[Transport]:
    return open_transport(config, services("http-granian", settings))


def make_certificate(folder: Path, *key: str) -> tuple[str, str]:
    """Returns the files of a new certificate and its key of the kind that openssl's options name."""
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [tool("openssl"), "req", "-x509", "-newkey", *key, *subject, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return make_certificate(tmp_path, "rsa:2048", "-nodes")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestGranian(TransportSuite):
    """By both of Granian's ways to serve HTTP/1."""

    @pytest.fixture(params=["auto", "1"])
    def open_transport(self, request: pytest.FixtureRequest) -> OpenTransport:
        return partial(open_with, GranianConfig(http=request.param))

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[str, str]:
        return make_certificate(tmp_path, "rsa:2048", "-nodes")


@pytest.fixture
def app(tmp_path: Path) -> "WithMissingFile":
    return WithMissingFile(tmp_path)


class WithMissingFile(Application):
    """Sends a file that was deleted meanwhile, too."""

    async def missing(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.pathsend", "path": str(self.file) + "-missing"})


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(app: Application) -> Serve:
    def serve(files: tuple[str, str] | None = None, **config: Any) -> AbstractAsyncContextManager[Served]:
        return serving(partial(open_with, GranianConfig(**config)), app, files=files or (None, None))

    return serve


@pytest.mark.anyio
async def test_a_file_that_is_not_there_is_not_an_empty_success(serve: Serve) -> None:
    async with serve() as served:
        assert (await served.ask("/missing")).status == 404


@pytest.mark.anyio
@pytest.mark.parametrize(("http", "flag"), [("auto", "--http1.1"), ("auto", H2C), ("1", "--http1.1"), ("2", H2C)])
async def test_versions_are_spoken_as_configured(
    app: Application, serve: Serve, tmp_path: Path, http: str, flag: str
) -> None:
    async with serve(http=http) as served:
        received = tmp_path / "received"
        arguments = ["--silent", flag, "--output", str(received), "--write-out", "%{http_version}"]
        command = await asyncio.create_subprocess_exec(
            tool("curl"), *arguments, f"http://127.0.0.1:{served.port}/blob", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await command.communicate()
        assert said == (b"2" if flag == H2C else b"1.1")
        assert received.read_bytes() == app.file.read_bytes()


@pytest.mark.anyio
async def test_headers_beyond_the_limit_are_refused(serve: Serve) -> None:
    async with serve(max_header_bytes=16384) as served:
        head = REQUEST % (b"GET", b"/") + b"connection: close\r\nx: "
        assert b" 200 " in (await served.raw(head + b"a" * 8000 + b"\r\n\r\n")).splitlines()[0]
        assert b" 431 " in (await served.raw(head + b"a" * 40000 + b"\r\n\r\n")).splitlines()[0]


@pytest.mark.anyio
async def test_a_client_that_never_ends_its_headers_is_cut_off(serve: Serve) -> None:
    async with serve(header_read_timeout=0.5) as served:
        assert b" 200 " not in await served.raw(REQUEST % (b"GET", b"/"))


@pytest.mark.anyio
@pytest.mark.parametrize("http", ["auto", "1"])
async def test_a_stop_under_load_fails_no_request(app: Application, serve: Serve, http: str) -> None:
    async with serve(http=http) as served:
        clients = [asyncio.create_task(ask_until_refused(served)) for _ in range(32)]
        async with asyncio.timeout(PATIENCE):
            while len(app.scopes) < 1000:
                await asyncio.sleep(0.01)
        served.task.cancel()
        answered = await asyncio.wait_for(asyncio.gather(*clients), 30)
        assert min(answered) > 0


@pytest.mark.anyio
async def test_tls_offers_http_2(serve: Serve, certificate: tuple[str, str]) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    trust.set_alpn_protocols(["h2"])
    async with serve(certificate) as served:
        _, writer = await served.connect(trust)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.close()


def test_a_client_of_http_2_pushes_and_pulls_over_tls_and_new_files_are_warned_of(tmp_path: Path) -> None:
    """By a whole server of two workers, many requests at once on one connection."""
    files = make_certificate(tmp_path, "rsa:2048", "-nodes")
    settings = ("http.enabled=false", "granian.enabled=true")
    blobs = [unique_blob(300_000 + number) for number in range(20)]

    async def use(url: str) -> None:
        trust = ssl.create_default_context(cafile=files[0])
        async with httpx.AsyncClient(base_url=url, verify=trust, http1=False, http2=True, timeout=60) as client:

            async def push_and_pull(blob: Blob) -> None:
                path = "/v2/team/app/blobs"
                pushed = await client.post(f"{path}/uploads/?digest={blob.digest}", content=blob.content)
                pulled = await client.get(f"{path}/{blob.digest}")
                assert (pushed.status_code, pushed.http_version, pulled.http_version) == (201, "HTTP/2", "HTTP/2")
                assert pulled.content == blob.content

            await asyncio.gather(*map(push_and_pull, blobs))

    with Server(tmp_path / "server", *settings, tls=(Path(files[0]), Path(files[1]))) as server:
        asyncio.run(use(server.url))
        arguments = ["--silent", "--http2", "--cacert", files[0], "--output", str(tmp_path / "pulled")]
        url = f"{server.url}/v2/team/app/blobs/{blobs[0].digest}"
        command = [tool("curl"), *arguments, "--write-out", "%{http_version} %{http_code}", url]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "2 200"
        assert (tmp_path / "pulled").read_bytes() == blobs[0].content
        trust = ssl.create_default_context(cafile=files[0])
        text = httpx.get(f"{server.url}/metrics", verify=trust).text
        assert text.count(f'drift_tls_certificate_expiry_seconds{{listener="{server.host}"}}') == 1
        make_certificate(tmp_path, "rsa:2048", "-nodes")
        said = "the files of [tls] have changed, and Granian serves the old ones until a restart"
        eventually(lambda: said in server.log.read_text(), "a warning")
        assert httpx.get(f"{server.url}/v2/", verify=trust).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    "key", [["ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-nodes"], ["rsa:2048", "-passout", "pass:secret"]]
)
async def test_a_key_that_cannot_be_used_is_a_clear_error(serve: Serve, tmp_path: Path, key: list[str]) -> None:
    files = make_certificate(tmp_path, *key)
    with pytest.raises(StartError, match=r"tls\."):
        async with serve(files):
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("key", [["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], ["ed25519"]])
async def test_a_key_of_a_modern_kind_serves(serve: Serve, tmp_path: Path, key: list[str]) -> None:
    files = make_certificate(tmp_path, *key, "-nodes")
    trust = ssl.create_default_context(cafile=files[0])
    async with serve(files) as served:
        assert (await served.ask("/", trust=trust)).body == b"x"
