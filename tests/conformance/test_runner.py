"""`drift conformance` on installed plugins."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drift_core.conformance import PluginSuite, StorageSuite, TransportSuite
from tests.conformance.test_transport import make_certificate
from tests.plugins.installation import Installation

QUICK = [rule.id for rule in StorageSuite.rules() if rule.id not in {"storage.any-sequence", "storage.large-blob"}]

HALF_STORE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class HalfConfig(Struct, forbid_unknown_fields=True):
    path: str = ""

@asynccontextmanager
async def open_half(config, services):
    from drift_core.conformance.mutants.storage import ReadsOneByteMore
    from drift_core.conformance.reference.storage import MemoryPlace
    if config.path == "/nowhere":
        raise OSError("there is no such place")
    yield ReadsOneByteMore(MemoryPlace())

@hookimpl
def drift_storage():
    return [Driver("half", HalfConfig, open_half)]
"""

FEATURE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class NothingConfig(Struct, forbid_unknown_fields=True):
    pass

class Nothing:
    name = "nothing"

@asynccontextmanager
async def open_nothing(config, services):
    yield Nothing()

@hookimpl
def drift_features():
    return [Driver("nothing", NothingConfig, open_nothing)]
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "site")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A file that chooses the filesystem store in an empty folder."""
    file = tmp_path / "drift.toml"
    file.write_text(f'[storage]\ntype = "filesystem"\npath = "{tmp_path}/data"\n')
    return file


def only(*rules: str) -> list[str]:
    return [word for rule in rules for word in ("--rule", rule)]


def outcomes(file: Path) -> dict[str, Any]:
    return {rule["rule"]: rule for rule in json.loads(file.read_text())["rules"]}


def test_filesystem(installation: Installation, configuration: Path, tmp_path: Path) -> None:
    """The store that Drift comes with passes, in the table and in the file, and nothing is left in its folder."""
    out = tmp_path / "out.json"
    done = installation.drift(
        "conformance", "storage:filesystem", "-c", str(configuration), "--json", str(out), *only(*QUICK)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(out)
    assert list(found) == QUICK
    expected = {rule: "skip" if rule.startswith("storage.endpoint-") else "pass" for rule in QUICK}
    assert {name: rule["outcome"] for name, rule in found.items()} == expected
    assert found["storage.local-path"]["level"] == "SupportsLocalPath"
    assert "storage.kill-between-append-and-commit" in done.stdout
    assert not [file for file in (tmp_path / "data" / "blobs").rglob("*") if file.is_file()]


def test_http(installation: Installation, tmp_path: Path) -> None:
    """The transport that Drift comes with passes, also over TLS, on addresses that the configuration does not name."""
    certificate, key = make_certificate(tmp_path)
    out = tmp_path / "out.json"
    tls = ["--set", f"tls.cert_file={certificate}", "--set", f"tls.key_file={key}"]
    done = installation.drift("conformance", "transport:http", *tls, "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(out)
    assert {rule.id for rule in (*PluginSuite.rules(), *TransportSuite.rules())} == set(found)
    assert {name for name, rule in found.items() if rule["outcome"] != "pass"} == {"plugin.dead-endpoint"}


def test_failures(installation: Installation, tmp_path: Path) -> None:
    """A failure is told with the values that differ, a power that is not claimed is skipped; it ends with 1."""
    installation.add("drift-storage-half", {"storage-half": "half"}, {"half": HALF_STORE})
    out = tmp_path / "out.json"
    command = ["conformance", "storage:half", "--set", "storage.type=half", "--json", str(out)]
    rules = ["storage.ranges", "storage.local-path", "storage.unknown-upload"]
    done = installation.drift(*command, *only(*rules), PYTEST_ADDOPTS="--nonsense", PYTEST_PLUGINS="nonsense")
    assert done.returncode == 1, done.stderr
    found = outcomes(out)
    assert {name: rule["outcome"] for name, rule in found.items()} == {
        "storage.unknown-upload": "pass",
        "storage.ranges": "fail",
        "storage.local-path": "skip",
    }
    assert found["storage.ranges"]["why"].startswith("AssertionError: assert b'")
    assert found["storage.local-path"]["why"] == "ReadsOneByteMore does not claim SupportsLocalPath"
    assert "storage.ranges" in done.stdout


def test_content_is_left_alone(installation: Installation, configuration: Path, tmp_path: Path) -> None:
    """A store that is in use is refused; if it is allowed, what was there is there afterwards."""
    command = ["conformance", "storage:filesystem", "-c", str(configuration), *only("storage.scan", "storage.check")]
    digest = hashlib.sha256(b"abc").hexdigest()
    blob = tmp_path / "data" / "blobs" / "sha256" / digest[:2] / digest
    assert installation.drift(*command).returncode == 0
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(b"abc")
    refused = installation.drift(*command)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the store has blobs" in refused.stderr
    assert installation.drift(*command, "--allow-content").returncode == 0
    assert [file for file in (tmp_path / "data" / "blobs").rglob("*") if file.is_file()] == [blob]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["storage:half"], "the configuration does not choose the storage driver 'half' (chosen: filesystem)"),
        (["cooking:soup"], "there is no family 'cooking'; the families are storage, authn,"),
        (
            ["storage:filesystem", "--rule", "cooking.soup"],
            "there is no rule cooking.soup; those of storage:filesystem begin with plugin. or storage.",
        ),
        (
            ["storage:filesystem", "--rule", "storage.nonsense"],
            "there is no rule storage.nonsense; the rules are storage.",
        ),
        (["storage:half", "--set", "storage.type=half", "--set", "storage.path=/nowhere"], "no such place"),
    ],
)
def test_cannot_run(installation: Installation, tmp_path: Path, arguments: list[str], message: str) -> None:
    """What prevents a run is one sentence, not a table of failures."""
    installation.add("drift-storage-half", {"storage-half": "half"}, {"half": HALF_STORE})
    done = installation.drift("conformance", "--set", f"storage.path={tmp_path}/data", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert not done.stdout


def test_rules_of_plugins(installation: Installation, tmp_path: Path) -> None:
    """A family without a suite has the rules of plugins, and a broken one of them is told."""
    out = tmp_path / "out.json"
    installation.add("drift-nothing", {"nothing": "nothing"}, {"nothing": FEATURE})
    done = installation.drift("conformance", "features:nothing", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: rule["outcome"] for name, rule in outcomes(out).items()} == {
        rule.id: "skip" if rule.id == "plugin.dead-endpoint" else "pass" for rule in PluginSuite.rules()
    }
    installation.add("drift-storage-half", {"storage-half": "half"}, {"half": "import uvloop\n" + HALF_STORE})
    done = installation.drift(
        "conformance", "storage:half", "--set", "storage.type=half", "--json", str(out), *only("plugin.import-budget")
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert list(outcomes(out)) == ["plugin.import-budget"]
    assert "{'uvloop'}" in outcomes(out)["plugin.import-budget"]["why"]


def test_bench(installation: Installation, configuration: Path, tmp_path: Path) -> None:
    """A store is measured beside the one in memory, and left as it was."""
    out = tmp_path / "out.json"
    command = ["conformance", "storage:filesystem", "-c", str(configuration), "--bench", "--json", str(out)]
    done = installation.drift(*command, *only("storage.check"))
    assert done.returncode == 0, done.stdout + done.stderr
    speeds = {speed["what"]: speed for speed in json.loads(out.read_text())["speeds"]}
    assert list(speeds) == ["append and commit", "read", "stat"]
    assert all(speed["driver"] > 0 and speed["reference"] > 0 for speed in speeds.values())
    assert "In memory" in done.stdout
    assert not [file for file in (tmp_path / "data" / "blobs").rglob("*") if file.is_file()]
    done = installation.drift("conformance", "transport:http", "--bench")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--bench measures stores, not transport:http" in done.stderr


def test_without_the_extra() -> None:
    """Where pytest is not installed, the message says what to install."""
    program = "import sys; sys.modules['pytest'] = None; from drift_core.cli import main; main()"
    command = [sys.executable, "-c", program, "conformance", "storage:filesystem"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: pytest is not installed; pip install 'drift-core[conformance]'\n"
