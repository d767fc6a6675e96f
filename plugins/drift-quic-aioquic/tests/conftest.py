"""An application served by QUIC in this process, a certificate for it, and clients that trust that."""

import asyncio
import datetime as dt
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from drift_quic_aioquic.client import Client, connect
from drift_quic_aioquic.config import BACKENDS, MODULES, TransportConfig
from drift_quic_aioquic.transport import QuicTransport
from msgspec import Struct

from drift_core.api import Records, ServerSettings
from drift_core.conformance import open_records, services
from drift_core.conformance.suites.transport import Application
from tests.server import Server
from tests.tools import unavailable

from .real_server import Both, settings

Files = tuple[Path, Path]
HOST = "127.0.0.1"


def free_port() -> int:
    """Returns a port of UDP on which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def write_certificate(
    folder: Path, name: str = "drift.test", *, days: int = 30, curve: ec.EllipticCurve | None = None
) -> Files:
    """Makes a certificate for 127.0.0.1 and localhost that is its own authority, and its key."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(HOST))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


def needed(backend: str) -> str:
    """Returns the name of an engine that is installed."""
    if find_spec(MODULES[backend]) is None:
        unavailable(f"the engine {backend} is not installed (make native)")
    return backend


@contextmanager
def both_by(folder: Path, backend: str, *own: str) -> Iterator[Both]:
    """Yields a server that speaks QUIC by one of the engines."""
    needed(backend)
    files, port, ui_port = write_certificate(folder), free_port(), free_port()
    given = settings(port, files, f"quic.backend={backend}", f"quic.ui_bind_addr={HOST}:{ui_port}", *own)
    more = "auth.mode=none", "registry.sparse_manifests=true", "registry.immutable_tags=[]"
    with Server(folder, *more, *given, workers=1) as server:
        yield Both(server, port, ui_port, files[0])


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One server for all tests that need no settings of their own."""
    own = "quic.workers=2", "quic.enable_0rtt=true", "quic.enable_early_data=true"
    with both_by(tmp_path_factory.mktemp("quic"), "aioquic", *own) as both:
        yield both


@pytest.fixture(scope="session")
def both_by_qh3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both_by(tmp_path_factory.mktemp("qh3"), "qh3") as both:
        yield both


@pytest.fixture(scope="session")
def both_by_quinn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    own = "quic.workers=2", "quic.enable_0rtt=true", "quic.enable_early_data=true"
    with both_by(tmp_path_factory.mktemp("quinn"), "quinn", *own) as both:
        yield both


@pytest.fixture(params=["both", "both_by_qh3", "both_by_quinn"])
def each(request: pytest.FixtureRequest) -> Both:
    """A server of each engine, one after the other."""
    found: Both = request.getfixturevalue(request.param)
    return found


class Served(Struct):
    """A transport that serves ``app`` on a port of this machine in ``task``; ``port`` is that of UDP."""

    app: Any
    port: int
    task: Any
    transport: Any
    ca_file: str

    @property
    def site(self) -> Any:
        """What the connections share."""
        return self.transport.endpoint.site

    def connect(self, **keys: Any) -> AbstractAsyncContextManager[Client]:
        """Connects as a client that trusts the certificate."""
        return connect(HOST, self.port, ca_file=self.ca_file, **keys)

    async def ask(
        self, path: str, method: str = "GET", body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Asks on a connection of its own."""
        async with self.connect() as client:
            return await ask(client, path, method, body, headers)


async def ask(
    client: Client,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Asks, and returns the whole answer."""
    async with client.request(method, path, headers, body) as (answer, parts):
        return answer.status, answer.headers, b"".join([part async for part in parts])


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
async def records() -> AsyncIterator[Records]:
    async with open_records("quic", "drift_quic_aioquic.migrations") as records:
        yield records


@pytest.fixture
def app(tmp_path: Path) -> Application:
    return Application(tmp_path)


@asynccontextmanager
async def serving(
    app: Any,
    certificate: Files,
    records: Records,
    *,
    port: int | None = None,
    drain: float = 5.0,
    worker: int = 0,
    workers: int = 1,
    **keys: Any,
) -> AsyncIterator[Served]:
    """Serves until it is left; ``keys`` are those of ``[quic]``."""
    needed(keys.get("backend", BACKENDS[0]))
    port = port or free_port()
    given = {"cert_path": str(certificate[0]), "key_path": str(certificate[1])} | keys
    config = TransportConfig(enabled=True, bind_addr=f"{HOST}:{port}", **given)
    settings = ServerSettings(f"{HOST}:1", 1000, drain, worker=worker, workers=workers)
    transport = QuicTransport(config, services("quic", settings, records=records))
    ready = asyncio.Event()
    task = asyncio.create_task(transport.serve(app, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], timeout=20, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    try:
        yield Served(app, port, task, transport, str(certificate[0]))
    finally:
        if hasattr(app, "release"):
            app.release.set()
        task.cancel()
        await asyncio.wait([task], timeout=20 + drain)
        assert task.done(), "a cancelled transport did not return"


@pytest.fixture
def backend() -> str:
    """The engine that serves; modules that are about all of them have another fixture of this name."""
    return BACKENDS[0]


@pytest.fixture
def serve(app: Application, certificate: Files, records: Records, backend: str) -> Serve:
    def serve(**keys: Any) -> AbstractAsyncContextManager[Served]:
        return serving(keys.pop("app", app), certificate, records, backend=backend, **keys)

    return serve
