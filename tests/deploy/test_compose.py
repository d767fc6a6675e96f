"""The compose file: valid, and started service by service on machines that have what each container would have."""

import json
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drift_core.config import ServerConfig
from drift_core.supervisor import KILL_GRACE
from tests.deploy.clients import Client
from tests.deploy.dockerfile import image
from tests.deploy.machines import Machine, Network, Program, await_answer
from tests.deploy.names import ADDRESS
from tests.server import DRIFT
from tests.tools import ROOT, tool, unavailable

FOLDER = ROOT / "examples/deploy/compose"
SECRETS = {"POSTGRES_PASSWORD": "2e1f6dd4fb5f4bb7", "MINIO_PASSWORD": "b45a1c63a9c0e0b9"}
NODES = ("drift-1", "drift-2", "drift-3")
PASSWORD = "a long password"
LAYER = 20
"""MiB of the layer that goes through the whole of it."""


def model() -> dict[str, Any]:
    """Returns the compose file as the Compose Specification's own loader reads it, with secrets filled in."""
    command = [tool("cmd"), "--no-interpolation", "--format", "json", "compose.yaml"]
    loaded = subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, text=True)
    assert loaded.stderr == ""
    return json.loads(interpolated(loaded.stdout, SECRETS))


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Returns a text with the values of variables, of which none may be missing."""
    return re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda found: variables[found[1]], text)


def seconds(duration: str) -> int:
    """Returns how long a duration such as ``40s`` is."""
    assert duration.endswith("s")
    return int(duration[:-1])


def configuration() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "drift.toml").read_text())


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [mount for service in model()["services"].values() for mount in service.get("volumes", [])]
    sources = {Path(mount["source"]) for mount in mounted if mount["type"] == "bind"}
    assert sources == {FOLDER / "drift.toml", FOLDER / "haproxy.cfg"}
    assert all(source.is_file() for source in sources)


def test_the_example_of_secrets_names_each_that_is_needed() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    named = re.findall(r"^(\w+)=$", (FOLDER / "secrets.env.example").read_text(), re.MULTILINE)
    assert asked == set(named) == set(SECRETS)
    # Without them nothing starts: an empty password would be worse.
    assert all(f"${{{name}:?" in (FOLDER / "compose.yaml").read_text() for name in asked)


def test_a_node_is_not_killed_while_it_drains() -> None:
    drain = configuration()["server"].get("drain_seconds", ServerConfig().drain_seconds)
    services = model()["services"]
    assert all(seconds(services[node]["stop_grace_period"]) > drain + KILL_GRACE for node in NODES)


def test_nothing_is_published_to_others() -> None:
    ports = [port for service in model()["services"].values() for port in service.get("ports", [])]
    assert {(port["host_ip"], port["published"]) for port in ports} == {("127.0.0.1", "5000"), ("127.0.0.1", "9000")}


def test_every_node_is_behind_the_balancer() -> None:
    servers = re.findall(r"^\s+server (\S+) (\S+):5000$", (FOLDER / "haproxy.cfg").read_text(), re.MULTILINE)
    services = model()["services"]
    assert [name for name, _ in servers] == [address for _, address in servers] == list(NODES)
    assert [name for name in services if name.startswith("drift")] == list(NODES)


@dataclass
class Project:
    """The services as they run, and what a person on the machine of Docker has."""

    network: Network
    services: dict[str, Any]
    machines: dict[str, Machine]
    programs: dict[str, Program]
    host: Client

    def node(self, name: str) -> Program:
        """Starts a node in what the container of its service would be."""
        command = [*image().entrypoint, *self.services[name].get("command", image().command)]
        user, environment = self._inside(name)
        self.programs[name] = self.machines[name].start(*command, user=user, **environment)
        return self.programs[name]

    def within(self, name: str, *command: str, said: str = "") -> str:
        """Runs a program as `docker compose exec` does."""
        user, environment = self._inside(name)
        return self.machines[name].run(*command, user=user, said=said, **environment)

    def _inside(self, name: str) -> tuple[str, dict[str, str]]:
        # One worker each: here all machines share two cores.
        here = {"PATH": f"{DRIFT.parent}:/usr/bin:/bin", "DRIFT_SERVER__WORKERS": "1"}
        return image().user.partition(":")[0], image().environment | self.services[name]["environment"] | here


def of_postgresql() -> str:
    """Returns the folder of the newest PostgreSQL's programs; Debian keeps those of a server out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not folders:
        unavailable("the server of PostgreSQL is not installed")
    return str(folders[-1])


def start_postgres(machine: Machine, service: Mapping[str, Any]) -> None:
    """Does what the image's own script does at the first start, and starts the server."""
    (volume,) = service["volumes"]
    data, programs, own = volume["target"], of_postgresql(), service["environment"]
    machine.write("/run/password", own["POSTGRES_PASSWORD"])
    machine.run("install", "--directory", "--owner=postgres", data, "/run/postgresql")
    initdb = ["--no-sync", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256"]
    machine.run(
        f"{programs}/initdb",
        f"--username={own['POSTGRES_USER']}",
        "--pwfile=/run/password",
        *initdb,
        data,
        user="postgres",
    )
    machine.write("/run/hba", "local all all trust\nhost all all all scram-sha-256\n")
    settings = ["--listen_addresses=*", "--hba_file=/run/hba", "--fsync=off"]
    machine.start(f"{programs}/postgres", "-D", data, *settings, user="postgres", ends_by=signal.SIGINT)
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"
    machine.run("sh", "-c", f"for try in $(seq 100); do {' '.join(check)} && exit; sleep 0.1; done; exit 1")
    machine.run("createdb", f"--username={own['POSTGRES_USER']}", own["POSTGRES_USER"])


def start_minio(machine: Machine, service: Mapping[str, Any]) -> None:
    (volume,) = service["volumes"]
    assert volume["target"] == "/data"
    # A folder in the root cannot be made on a machine of ours.
    command = [part.replace("/data", "/srv/data") for part in service["command"]]
    machine.start(tool("minio"), *command, HOME="/srv", **service["environment"])
    await_answer(machine, "http://127.0.0.1:9000/minio/health/ready")


def start_haproxy(machine: Machine, service: Mapping[str, Any]) -> None:
    (mount,) = service["volumes"]
    machine.write(mount["target"], Path(mount["source"]).read_bytes())
    # As in a container of Docker.
    machine.write("/etc/resolv.conf", f"nameserver {ADDRESS}\n")
    machine.start(str(DRIFT.parent / "python"), "-m", "tests.deploy.names", PYTHONPATH=str(ROOT))
    said = machine.run(tool("haproxy"), "-c", "-f", mount["target"])
    assert "WARNING" not in said, said
    machine.start(tool("haproxy"), "-db", "-f", mount["target"])


def publish(machine: Machine, services: Mapping[str, Any]) -> None:
    """Makes the published ports of services those of a machine, as Docker does."""
    lines = ["defaults", " mode tcp", " timeout connect 5s", " timeout client 60s", " timeout server 60s"]
    for name, service in services.items():
        for port in service.get("ports", []):
            bound = f"{port['host_ip']}:{port['published']}"
            lines += [f"listen {name}-{port['target']}", f" bind {bound}", f" server {name} {name}:{port['target']}"]
    machine.write("/etc/published.cfg", "\n".join([*lines, ""]))
    machine.start(tool("haproxy"), "-db", "-f", "/etc/published.cfg")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    services = model()["services"]
    with Network(tmp_path_factory.mktemp("compose")) as network:
        machines = {name: network.machine(name, f"172.18.0.{10 + place}/16") for place, name in enumerate(services)}
        host = network.machine("host", "172.18.0.1/16")
        network.name()
        started = Project(network, services, machines, {}, Client(host, "127.0.0.1:5000"))
        start_minio(machines["minio"], services["minio"])
        start_postgres(machines["postgres"], services["postgres"])
        for name in NODES:
            (mount,) = services[name]["volumes"]
            machines[name].write(mount["target"], Path(mount["source"]).read_bytes())
            machines[name].path("/var/lib/drift").mkdir(mode=0o700)
            assert (services[name]["read_only"], services[name]["tmpfs"]) == (True, ["/tmp"])
            machines[name].freeze()
            # All at once, as Docker does.
            started.node(name)
        for name in NODES:
            await_answer(machines[name], "http://127.0.0.1:5000/readyz", started.programs[name])
        start_haproxy(machines["haproxy"], services["haproxy"])
        publish(host, services)
        await_answer(host, "http://127.0.0.1:5000/readyz")
        yield started


def test_who_is_not_logged_in_gets_nothing(project: Project) -> None:
    with pytest.raises(AssertionError, match="401"):
        project.host.curl("/v2/")


def test_an_image_goes_through_the_nodes_and_comes_from_the_store(project: Project) -> None:
    project.within("drift-1", "drift", "user", "add", "ann", "--password-stdin", said=PASSWORD)
    project.host.crane("auth", "login", project.host.host, "-u", "ann", "-p", PASSWORD)
    project.host.push_and_pull("team/app", LAYER)
    manifest = json.loads(project.host.crane("manifest", f"{project.host.host}/team/app:v1"))
    path = f"/v2/team/app/blobs/{manifest['layers'][0]['digest']}"
    answer = project.host.curl(path, "--user", f"ann:{PASSWORD}", "--include")
    assert answer.startswith("HTTP/1.1 307")
    assert "location: http://127.0.0.1:9000/drift/" in answer.lower()


def test_each_container_says_that_it_is_healthy(project: Project) -> None:
    for name in NODES:
        project.within(name, *image().health)


def test_a_node_that_has_another_address_is_found_again(project: Project) -> None:
    assert [project.programs[name].stop() for name in NODES] == [0, 0, 0]
    project.machines["drift-2"].move("172.18.0.99/16")
    project.network.name(project.machines["haproxy"])
    node = project.node("drift-2")
    await_answer(project.host.machine, "http://127.0.0.1:5000/readyz", node)
