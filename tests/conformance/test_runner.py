"""`drift conformance` on installed plugins."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drift_core.conformance import StorageSuite
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
    assert {rule["outcome"] for rule in found.values()} == {"pass"}
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
    assert {rule["outcome"] for rule in outcomes(out).values()} == {"pass"}


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
        (["cooking:soup"], "there is no suite for 'cooking'; there is one for optimization, storage, transport"),
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


def test_without_the_extra() -> None:
    """Where pytest is not installed, the message says what to install."""
    program = "import sys; sys.modules['pytest'] = None; from drift_core.cli import main; main()"
    command = [sys.executable, "-c", program, "conformance", "storage:filesystem"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: pytest is not installed; pip install 'drift-core[conformance]'\n"
