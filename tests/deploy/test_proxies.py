"""nginx and HAProxy before three nodes, each with the example's own file, on a network that has its addresses."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.clients import MIB, Client
from tests.deploy.machines import PATIENCE, Machine, Network, Program, await_answer
from tests.faults.inspection import eventually
from tests.server import DRIFT
from tests.tools import ROOT, tool

EXAMPLES = ROOT / "examples/deploy"
NAME = "registry.example.org"
CLIENT = "10.0.0.77"
LAYER = 50
"""MiB of the layer that goes through each proxy."""


@dataclass(frozen=True)
class Stack:
    """Three nodes that share a folder, the machine before them, and a client."""

    nodes: list[Machine]
    programs: list[Program]
    proxy: Machine
    client: Client

    def seen(self) -> list[tuple[str, str]]:
        """Returns address and path of each request that the nodes have logged."""
        lines = [line for program in self.programs for line in program.log.read_text().splitlines()]
        entries = [json.loads(line) for line in lines if '"event": "request"' in line]
        return [(entry["client"], entry["path"]) for entry in entries]


def certificate(folder: Path) -> tuple[str, str]:
    """Returns certificate and key, as PEM, of the name in the examples."""
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = folder / "registry.crt", folder / "registry.key"
    command = [tool("openssl"), "req", "-x509", *key, *subject, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files[0].read_text(), files[1].read_text()


def nginx(machine: Machine, certificate: tuple[str, str]) -> None:
    machine.write("/etc/nginx/conf.d/drift.conf", (EXAMPLES / "nginx/drift.conf").read_bytes())
    machine.write("/etc/nginx/registry.crt", certificate[0])
    machine.write("/etc/nginx/registry.key", certificate[1], mode=0o600)
    said = machine.run(tool("nginx"), "-t")
    assert "warn" not in said, said
    machine.start(tool("nginx"), "-g", "daemon off;")


def haproxy(machine: Machine, certificate: tuple[str, str]) -> None:
    machine.write("/etc/haproxy/haproxy.cfg", (EXAMPLES / "haproxy/haproxy.cfg").read_bytes())
    machine.write("/etc/haproxy/registry.pem", "".join(certificate), mode=0o600)
    said = machine.run(tool("haproxy"), "-c", "-f", "/etc/haproxy/haproxy.cfg")
    assert "WARNING" not in said, said
    machine.start(tool("haproxy"), "-db", "-f", "/etc/haproxy/haproxy.cfg")


@pytest.fixture(scope="module", params=[nginx, haproxy], ids=lambda start: start.__name__)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    start: Callable[[Machine, tuple[str, str]], None] = request.param
    tool(start.__name__)
    folder = tmp_path_factory.mktemp(start.__name__)
    settings = [
        "server.bind_addr=0.0.0.0:5000",
        "server.workers=1",
        'server.trusted_proxies=["10.0.0.10"]',
        "auth.mode=none",
        f"storage.path={folder / 'data'}",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    with Network(folder) as network:
        proxy = network.machine(NAME, "10.0.0.10/24")
        nodes = [network.machine(f"drift-{number}", f"10.0.0.1{number}/24") for number in (1, 2, 3)]
        machine = network.machine("client", f"{CLIENT}/24")
        network.name()
        # The first makes the tables.
        programs = []
        for node in nodes:
            programs.append(node.start(str(DRIFT), "serve", *arguments))
            await_answer(node, "http://127.0.0.1:5000/readyz", programs[-1])
        made = certificate(folder)
        start(proxy, made)
        trust = str(folder / "registry.crt")
        client = Client(machine, NAME, trust)
        await_answer(machine, f"{client.url}/readyz", trust=trust)
        yield Stack(nodes, programs, proxy, client)


def test_an_image_goes_through_whole(stack: Stack) -> None:
    stack.client.push_and_pull("large/image", LAYER)


def test_the_nodes_see_the_client_whatever_it_claims(stack: Stack) -> None:
    stack.client.curl("/v2/claimed/blobs/uploads/", "--data", "", "--header", "X-Forwarded-For: 192.0.2.1")

    def addresses() -> set[str]:
        return {address for address, path in stack.seen() if "claimed" in path}

    # A request's line comes after its answer.
    eventually(lambda: bool(addresses()), "the request in the log of a node")
    assert addresses() == {CLIENT}


def test_an_upload_goes_on_to_the_node_while_it_arrives(stack: Stack, tmp_path: Path) -> None:
    upload = stack.client.begin_upload("cut")
    content = tmp_path / "content"
    content.write_bytes(bytes(32 * MIB))
    with pytest.raises(AssertionError, match="timed out"):
        # Two of its 32 MiB arrive before the client gives up.
        stack.client.curl(
            upload, "--upload-file", str(content), "--request", "PATCH", "--limit-rate", "1M", "--max-time", "2"
        )
    deadline = time.monotonic() + PATIENCE
    while stack.client.held(upload) < MIB:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_no_request_fails_while_a_node_stops(stack: Stack) -> None:
    path = "/v2/large/image/tags/list"
    asking = stack.client.machine.start(
        "curl",
        "--silent",
        "--show-error",
        "--fail-early",
        "--fail",
        "--rate",
        "50/s",
        f"{stack.client.url}{path}?[1-200]",
        **stack.client.trust,
    )
    time.sleep(0.5)
    assert stack.programs[0].stop() == 0
    assert asking.process.wait(PATIENCE) == 0, asking.log.read_text()[-2000:]
