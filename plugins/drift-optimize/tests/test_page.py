"""The how-to and the README: configuration, commands, answers and metrics are what the pages say."""

import json
import re
import shlex
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from drift_optimize.config import OptimizationConfig
from drift_optimize.measures import Measures
from drift_optimize.plugin import OPTIMIZERS
from prometheus_client import CollectorRegistry

from drift_core.config import load
from tests.docs.test_storage_pages import blocks, defaults, keys_of
from tests.faults.inspection import PATIENCE
from tests.server import DRIFT, Server
from tests.tools import ROOT, tool

from .corpus import Tar
from .pushing import OCI, Blob, digest_of, put_image, text
from .registry import Optimized

PAGE = (ROOT / "docs/how-to/optimize.md").read_text()
README = (ROOT / "plugins/drift-optimize/README.md").read_text()
COMMANDS = [line.removeprefix("$ ") for block in blocks(PAGE, "console") for line in block.splitlines()]


def said(line: str, *more: str) -> str:
    program, *words = shlex.split(line)
    found = str(DRIFT) if program == "drift" else tool(program)
    done = subprocess.run(
        [found, *words, *more], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def shape(value: Any) -> Any:
    """Returns the keys and kinds of JSON, without its numbers."""
    return {key: shape(one) for key, one in value.items()} if isinstance(value, dict) else type(value)


def test_the_keys_are_those_of_the_plugin() -> None:
    assert keys_of(PAGE, "optimization") == defaults(OptimizationConfig)


def test_the_metrics_are_those_of_the_plugin() -> None:
    registry = CollectorRegistry()
    Measures(registry)
    known = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    assert set(re.findall(r"`(drift_optimize_\w+)", PAGE)) == known


def test_the_table_has_every_form() -> None:
    (rows,) = re.findall(r"\| Form \|.*\n\|-.*\n((?:\|.*\n)*)", PAGE)
    assert re.findall(r"^\| `([\w-]+)` \|", rows, re.MULTILINE) == [*OPTIMIZERS, "squashed"]


@pytest.mark.parametrize("text", [*blocks(PAGE, "toml"), *blocks(README, "toml")])
def test_the_examples_load(tmp_path: Path, text: str) -> None:
    file = tmp_path / "drift.toml"
    file.write_text(text)
    assert load(file, {}, ()).section("optimization", OptimizationConfig).enabled


def test_the_page(tmp_path: Path) -> None:
    """Every command of it, in its order, beside a server with its configuration."""
    (config,) = blocks(PAGE, "toml")
    assert tomllib.loads(config)["optimization"]["enabled"]
    file = tmp_path / "drift.toml"
    file.write_text(config)
    registry = Optimized(tmp_path)
    registry.server = Server(tmp_path / "server", "auth.mode=none", config=file, workers=1)
    with registry:
        tar = Tar().file("opt/file", text(1, 100_000)).end()
        digest = put_image(registry, "team/app", "v1", [Blob(OCI, tar, digest_of(tar))])
        assert registry.ended("team/app", digest)["state"] == "optimized"
        put_image(registry, "other/app", "v1", [Blob(OCI, tar, digest_of(tar))])
        for line in COMMANDS:
            assert_command(registry, line, tmp_path)
        assert registry.tags("team/app") == ["v1", "v1-zstd"]
        assert registry.tags("other/app") == ["v1"]
        (answer,) = map(json.loads, blocks(PAGE, "json"))
        sums = registry.client.get("/admin/optimize/stats").json()
        assert shape(answer) == shape(sums)
        assert (answer["total_original_size"], answer["total_layers"]) == (sums["total_original_size"], 1)


def assert_command(registry: Optimized, line: str, folder: Path) -> None:
    if line.startswith("drift "):
        out = said(line, *registry.server.arguments())
        assert out.strip(), line
    elif line.startswith("{"):
        assert list(json.loads(line)) == ["jobs"]
    elif line.startswith("curl "):
        own = line.replace("http://127.0.0.1:5000", registry.server.url)
        out = said(own, "--silent", "--write-out", "%{http_code}")
        # A job that has ended cannot be cancelled.
        assert out[-3:] in (("204", "404") if "DELETE" in line else ("200", "202")), out
    else:
        name = line.replace("registry.example.com", registry.server.host).replace("dir:app", f"dir:{folder / 'app'}")
        tls = "--src-tls-verify=false" if line.startswith("skopeo") else "--tls-verify=false"
        program, rest = name.split(" ", 1)
        # podman refuses a longer path than 50 characters, which those of parallel tests are.
        with tempfile.TemporaryDirectory(prefix="podman") as run:
            storage = ("--root", str(folder / "root"), "--runroot", run, "--storage-driver", "vfs")
            said(" ".join((program, *(storage if program == "podman" else ()), rest)), tls)
