"""The systemd unit: systemd finds nothing wrong with it, and what it starts works within what it allows."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from drift_core.config import ServerConfig
from drift_core.supervisor import KILL_GRACE
from tests.deploy.clients import Client
from tests.deploy.machines import Machine, Network, await_answer
from tests.server import DRIFT
from tests.tools import ROOT, tool

FOLDER = ROOT / "examples/deploy/systemd"
INSTALLED = "/opt/drift/bin/drift"
USER = "10001"
EXPOSURE = 2.0
"""Of ten: systemd's own measure of what a service may do beyond its work; 2 and less it calls OK."""

NO_WRITABLE_CODE = (
    "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"
)
"""Starts a program as MemoryDenyWriteExecute= does: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), since Linux 6.3."""


def unit() -> dict[str, list[str]]:
    """Returns the values of each key of the unit, in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (FOLDER / "drift.service").read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def configuration() -> dict[str, dict[str, object]]:
    return tomllib.loads((FOLDER / "drift.toml").read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The unit as it would be on a machine that has the program."""
    copy = tmp_path / "drift.service"
    copy.write_text((FOLDER / "drift.service").read_text().replace(INSTALLED, str(DRIFT)))
    return copy


def test_systemd_finds_nothing_wrong(file: Path) -> None:
    said = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", file], check=True, capture_output=True, text=True
    )
    assert [line for line in said.stderr.splitlines() if "drift" in line] == []


def test_it_may_do_little_beyond_its_work(file: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", f"--threshold={int(EXPOSURE * 10)}", file]
    rated = subprocess.run(command, check=False, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout[-300:]


def test_it_is_not_killed_while_it_drains() -> None:
    drain = configuration()["server"].get("drain_seconds", ServerConfig().drain_seconds)
    (timeout,) = unit()["TimeoutStopSec"]
    assert isinstance(drain, int | float)
    assert int(timeout) > drain + KILL_GRACE


def test_its_folders_are_those_of_the_configuration() -> None:
    (state,), (work,), (environment,) = unit()["StateDirectory"], unit()["WorkingDirectory"], unit()["Environment"]
    assert f"/var/lib/{state}" == work == configuration()["storage"]["path"]
    (folder,) = unit()["ConfigurationDirectory"]
    assert environment == f"DRIFT_CONFIG=/etc/{folder}/drift.toml"
    user = re.findall(r"^u (\S+) - \"[^\"]+\" (\S+)$", (FOLDER / "drift.conf").read_text(), re.MULTILINE)
    assert [(unit()["User"][0], work)] == user == [(unit()["Group"][0], work)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which a user may write to what the unit gives it, and to nothing else."""
    with Network(tmp_path) as network:
        machine = network.machine("registry", "10.0.0.1/24")
        machine.write("/etc/drift/drift.toml", (FOLDER / "drift.toml").read_bytes())
        machine.run("ln", "--symbolic", str(DRIFT.parent.parent), "/opt/drift")
        (state,) = unit()["StateDirectory"]
        machine.run(
            "install",
            "--directory",
            f"--owner={USER}",
            f"--mode={unit()['StateDirectoryMode'][0]}",
            f"/var/lib/{state}",
        )
        machine.freeze(f"/var/lib/{state}")
        yield machine


def test_what_it_starts_works_within_what_it_allows(machine: Machine) -> None:
    environment = dict(line.split("=", 1) for line in unit()["Environment"])
    (check,), (start,), (mask,) = unit()["ExecStartPre"], unit()["ExecStart"], unit()["UMask"]
    python = str(Path(INSTALLED).parent / "python")
    within = ["env", "--chdir", unit()["WorkingDirectory"][0], python, "-c", NO_WRITABLE_CODE]
    assert "the configuration is good" in machine.run(*within, *check.split(), user=USER, **environment)
    program = machine.start(*within, "/bin/sh", "-c", f"umask {mask}; exec {start}", user=USER, **environment)
    await_answer(machine, "http://127.0.0.1:5000/readyz", program)
    machine.run(
        *within, INSTALLED, "user", "add", "ann", "--password-stdin", user=USER, said="a long password", **environment
    )
    client = Client(machine, "127.0.0.1:5000", folder="/tmp/client")
    client.crane("auth", "login", client.host, "-u", "ann", "-p", "a long password")
    client.push_and_pull("team/app", 2)
    assert program.stop() == 0
    kept = machine.run("find", "/var/lib/drift", "-type", "f", "-perm", "/077")
    assert kept == ""
