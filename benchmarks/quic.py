"""What QUIC costs: downloads and uploads over it, beside other servers of HTTP/3 and beside HTTP/1.1 over TLS.

`python -m benchmarks.quic [--sizes 20,256] [--rounds 3]` prints a table in Markdown, all of one run on one machine. The
client is quic-go's (`.tools/bin/quic-gateway`), and shares the cores with the server. `drift` hashes and stores what is
uploaded. An engine alone, which is Drift's transport without a registry behind it, the plain bridge, which is that of
aioquic's examples, and quic-go's server only read it, and Caddy, which serves a folder of files, takes none. Caddy is
measured where the folder that `REGISTRY_PEERS` names, or `PATH`, has it:

    GOBIN=$FOLDER go install github.com/caddyserver/caddy/v2/cmd/caddy@latest
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.server import Server
from tests.tools import TOOLS

MIB = 1 << 20
BACKENDS = ("aioquic", "qh3", "quinn")
GRANIAN = ("http.enabled=false", "granian.enabled=true")
CLIENT = TOOLS / "quic-gateway"
PATIENCE = 600.0
PROBE_SECONDS = 5.0
START_SECONDS = 2.0
PART_BYTES = 256 << 10
TICKS = os.sysconf("SC_CLK_TCK")


class Figure(Struct):
    """One transfer: millions of bytes for each second, and milliseconds of the server's CPU for each MiB."""

    speed: float
    cpu: float


class Subject(Struct):
    """A server: where it answers, over which protocol, whose CPU it costs, and whether it takes uploads."""

    name: str
    port: int
    over: str
    process: int
    takes: bool = True


def main() -> None:
    """Measures, or serves as the plain bridge or as an engine alone where the arguments say so."""
    if sys.argv[1:2] in (["plain"], *([one] for one in BACKENDS)):
        serving = serve_plain if sys.argv[1] == "plain" else partial(serve_bare, sys.argv[1])
        asyncio.run(serving(int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="20,256", help="MiB of each transfer")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), [int(size) for size in given.sizes.split(",")], given.rounds)


def measure(folder: Path, sizes: list[int], rounds: int) -> None:
    """Prints the table, and the p99 of HTTP/1.1 with and without a download over QUIC."""
    certificate, key = certify(folder)
    with ExitStack() as running:
        drifts = {one: running.enter_context(drift(folder, certificate, key, one)) for one in BACKENDS}
        granian = running.enter_context(drift(folder / "granian", certificate, key, BACKENDS[0], *GRANIAN))
        print("| Server | MiB | GET MB/s | ms CPU/MiB | PUT MB/s | ms CPU/MiB |\n|---|---|---|---|---|---|")
        for size in sizes:
            files = folder_of(folder / f"files-{size}", size * MIB)
            server, _, pid = drifts[BACKENDS[0]]
            with ExitStack() as stack:
                subjects = [
                    *(Subject(f"drift, HTTP/3 ({name})", port, "h3", pid) for name, (_, port, pid) in drifts.items()),
                    *(
                        stack.enter_context(bridge(name, f"{name} alone", certificate, key, size * MIB))
                        for name in BACKENDS
                    ),
                    stack.enter_context(bridge("plain", "plain bridge of aioquic", certificate, key, size * MIB)),
                    stack.enter_context(quic_go(certificate, key, files)),
                    *stack.enter_context(caddy(folder, certificate, key, files)),
                    Subject("drift, HTTP/1.1 over TLS", server.port, "h1", pid),
                    Subject("drift, HTTP/2 over TLS (granian)", granian[0].port, "h2", granian[2]),
                ]
                compare(subjects, certificate, size * MIB, rounds)
                if size == sizes[-1]:
                    bulk = [one for one in subjects if one.name.startswith("drift, HTTP/3") or not one.takes]
                    disturb(server, bulk, certificate, size * MIB, rounds)


@contextmanager
def drift(folder: Path, certificate: Path, key: Path, backend: str, *more: str) -> Iterator[tuple[Server, int, int]]:
    """Yields a server, its port of UDP, and its process."""
    port = free_udp_port()
    settings = [
        "auth.mode=none",
        "quic.enabled=true",
        f"quic.backend={backend}",
        f"quic.bind_addr=127.0.0.1:{port}",
        f"quic.cert_path={certificate}",
        f"quic.key_path={key}",
        "registry.max_upload_size_mb=4096",
        *more,
    ]
    with Server(folder / f"drift-{backend}", *settings, workers=1, tls=(certificate, key)) as server:
        assert server.process is not None
        yield server, port, server.process.pid


def compare(subjects: list[Subject], certificate: Path, size: int, rounds: int) -> None:
    """Prints a row for each subject: medians of interleaved rounds."""
    push = ("-method", "POST", "-path", f"/v2/bench/quic/blobs/uploads/?digest={digest_of(size)}", "-size", str(size))
    pull = ("-path", path_of(size))
    found: dict[tuple[str, str], list[Figure]] = {}
    for _ in range(rounds):
        for subject in subjects:
            for method, arguments in (("PUT", push), ("GET", pull)) if subject.takes else (("GET", pull),):
                found.setdefault((subject.name, method), []).append(transfer(subject, certificate, size, arguments))
    for subject in subjects:
        cells = [f"{subject.name}", f"{size // MIB}"]
        for method in ("GET", "PUT"):
            figures = found.get((subject.name, method))
            cells += ["", ""] if figures is None else [median(figures, name) for name in ("speed", "cpu")]
        print(f"| {' | '.join(cells)} |")


def median(figures: list[Figure], name: str) -> str:
    """Returns what is shown of several figures."""
    return f"{statistics.median(getattr(one, name) for one in figures):.1f}"


def digest_of(size: int) -> str:
    """Returns the digest of so many zeros, which are all that is moved."""
    return f"sha256:{hashlib.sha256(bytes(size)).hexdigest()}"


def path_of(size: int) -> str:
    """Returns the path at which every server has them."""
    return f"/v2/bench/quic/blobs/{digest_of(size)}"


def folder_of(folder: Path, size: int) -> Path:
    """Makes a folder in which they are a file."""
    file = folder / path_of(size).removeprefix("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(size))
    return folder


def transfer(subject: Subject, certificate: Path, size: int, arguments: tuple[str, ...]) -> Figure:
    """Moves ``size`` bytes once."""
    before = cpu(subject.process)
    answer = ask(certificate, subject.port, "-over", subject.over, *arguments)
    assert answer["status"] in {200, 201}, answer
    assert "GET" in arguments or answer["bytes"] in {0, size} or answer["status"] == 201, answer
    return Figure(size / answer["seconds"] / 1e6, (cpu(subject.process) - before) * 1000 / (size / MIB))


def ask(certificate: Path, port: int, *arguments: str, nice: int = 0) -> Any:
    """Runs the client, and returns what came of its request."""
    command = [
        "nice",
        "-n",
        str(nice),
        str(CLIENT),
        "-ca",
        str(certificate),
        "-target",
        f"127.0.0.1:{port}",
        *arguments,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(ended.stdout.splitlines()[0])


def cpu(process: int) -> float:
    """Returns the seconds that a process and its children have worked."""
    total, queue = 0.0, [process]
    while queue:
        one = queue.pop()
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
        queue += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return total


def disturb(server: Server, subjects: list[Subject], certificate: Path, size: int, rounds: int) -> None:
    """Prints by how much the p99 of small requests over HTTP/1.1 grows while downloads run: medians of rounds.

    Their client shares the cores, which elsewhere it would not: once as an equal, and once with the lowest priority.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for subject in subjects:
            for nice in (0, 19):
                alone = probe(server, certificate)
                with downloads(certificate, subject.port, size, nice):
                    beside = probe(server, certificate)
                found.setdefault((subject.name, nice), []).append(beside / alone)
    print("\n| Beside downloads from | p99 of HTTP/1.1 | with the client at the lowest priority |\n|---|---|---|")
    for subject in subjects:
        cells = [f"{statistics.median(found[subject.name, nice]):.1f} x" for nice in (0, 19)]
        print(f"| {subject.name} | {' | '.join(cells)} |")


@contextmanager
def downloads(certificate: Path, port: int, size: int, nice: int) -> Iterator[None]:
    """Downloads again and again."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            ask(certificate, port, "-path", path_of(size), nice=nice)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        yield
    finally:
        stop.set()
        loading.join()


def probe(server: Server, certificate: Path) -> float:
    """Asks for some seconds on one connection, and returns the p99 in milliseconds."""
    trust = ssl.create_default_context(cafile=certificate)
    client = http.client.HTTPSConnection("127.0.0.1", server.port, context=trust)
    took = list[float]()
    began = time.monotonic()
    while time.monotonic() - began < PROBE_SECONDS:
        start = time.perf_counter()
        client.request("GET", "/health")
        client.getresponse().read()
        took.append((time.perf_counter() - start) * 1000)
        time.sleep(0.002)
    client.close()
    return statistics.quantiles(took, n=100)[98]


def certify(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """Makes a certificate for an address, and its key."""
    files = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


def free_udp_port() -> int:
    """Returns a port of UDP on which nobody listens."""
    import socket  # noqa: PLC0415 - of this function alone

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def bridge(kind: str, name: str, certificate: Path, key: Path, size: int) -> Iterator[Subject]:
    """Yields a server in which nothing is behind QUIC: it answers every GET with ``size`` bytes."""
    port = free_udp_port()
    words = [sys.executable, "-m", "benchmarks.quic", kind, str(port), str(certificate), str(key), str(size)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Subject(name, port, "h3", process.pid)
        finally:
            process.terminate()


@contextmanager
def quic_go(certificate: Path, key: Path, files: Path) -> Iterator[Subject]:
    """Yields quic-go's server over a folder of files."""
    port = free_udp_port()
    keys = ["-cert", str(certificate), "-key", str(key), "-folder", str(files)]
    with subprocess.Popen([str(CLIENT), "-serve", f"127.0.0.1:{port}", *keys], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Subject("server of quic-go", port, "h3", process.pid)
        finally:
            process.terminate()


@contextmanager
def caddy(folder: Path, certificate: Path, key: Path, files: Path) -> Iterator[list[Subject]]:
    """Yields Caddy over a folder of files, or nothing where it is not there."""
    program = shutil.which("caddy", path=f"{os.environ.get('REGISTRY_PEERS', '')}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        yield []
        return
    port, config = free_udp_port(), folder / "Caddyfile"
    config.write_text(
        "{\n admin off\n auto_https off\n servers {\n  protocols h1 h2 h3\n }\n}\n"
        f"https://127.0.0.1:{port} {{\n tls {certificate} {key}\n root * {files}\n file_server\n}}\n"
    )
    command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)}) as process:
        time.sleep(START_SECONDS)
        try:
            yield [Subject("Caddy, HTTP/3", port, "h3", process.pid, takes=False)]
        finally:
            process.terminate()


async def serve_bare(backend: str, port: int, certificate: str, key: str, size: int) -> None:
    """Serves by Drift's own transport what the plain bridge does."""
    from drift_quic_aioquic.config import TransportConfig  # noqa: PLC0415 - only the other process needs it
    from drift_quic_aioquic.transport import QuicTransport  # noqa: PLC0415

    from drift_core.api import ServerSettings  # noqa: PLC0415
    from drift_core.conformance import open_records, services  # noqa: PLC0415

    part = bytes(PART_BYTES)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200 if scope["method"] == "GET" else 201, "headers": []})
        for _ in range(size // len(part) if scope["method"] == "GET" else 0):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    address = f"127.0.0.1:{port}"
    config = TransportConfig(enabled=True, backend=backend, bind_addr=address, cert_path=certificate, key_path=key)
    async with open_records("quic", "drift_quic_aioquic.migrations") as records:
        settings = ServerSettings(address, 1000, 5.0)
        transport = QuicTransport(config, services("quic", settings, records=records))
        await transport.serve(app, partial(print, "ready", flush=True))


async def serve_plain(port: int, certificate: str, key: str, size: int) -> None:
    """Serves HTTP/3 as aioquic's own examples do, with its defaults and without back-pressure."""
    from aioquic.asyncio.protocol import QuicConnectionProtocol  # noqa: PLC0415 - only the other process needs it
    from aioquic.asyncio.server import serve  # noqa: PLC0415
    from aioquic.h3.connection import H3_ALPN, H3Connection  # noqa: PLC0415
    from aioquic.h3.events import DataReceived, HeadersReceived  # noqa: PLC0415
    from aioquic.quic.configuration import QuicConfiguration  # noqa: PLC0415
    from aioquic.quic.events import ProtocolNegotiated  # noqa: PLC0415

    part = bytes(PART_BYTES)

    class Bridge(QuicConnectionProtocol):
        http: Any = None

        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, ProtocolNegotiated):
                self.http = H3Connection(self._quic)
            for found in self.http.handle_event(event) if self.http else ():
                if isinstance(found, HeadersReceived) and dict(found.headers)[b":method"] == b"GET":
                    self.http.send_headers(found.stream_id, [(b":status", b"200")])
                    for _ in range(size // len(part)):
                        self.http.send_data(found.stream_id, part, end_stream=False)
                    self.http.send_data(found.stream_id, b"", end_stream=True)
                elif isinstance(found, DataReceived) and found.stream_ended:
                    self.http.send_headers(found.stream_id, [(b":status", b"201")], end_stream=True)

    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    made: Callable[..., Any] = Bridge
    await serve("127.0.0.1", port, configuration=configuration, create_protocol=made)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
