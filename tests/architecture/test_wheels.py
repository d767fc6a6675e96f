"""Each plugin's wheel installs beside nothing but the core, and works there; the core alone says what it lacks."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from drift_core.discovery import discover
from tests.conformance.test_transport import make_certificate
from tests.services.minio import Minio
from tests.tools import ROOT

PLUGINS = {
    "drift-audit": ["features:audit"],
    "drift-auth-basic": ["authn:basic"],
    "drift-auth-certificate": ["authn:certificate"],
    "drift-auth-oidc": ["authn:oidc"],
    "drift-auth-token": ["authn:token"],
    "drift-bolt": ["features:bolt"],
    "drift-gc": ["gc:collector"],
    "drift-metrics": ["features:metrics"],
    "drift-optimize": [
        *(f"optimization:{name}" for name in ("gzip", "zstd", "zstd-chunked", "estargz")),
        "features:optimization",
    ],
    "drift-quic-aioquic": ["features:quic", "transport:quic"],
    "drift-quota": ["features:quota"],
    "drift-rbac": ["authz:rbac"],
    "drift-retention": ["features:retention"],
    "drift-scrub": ["features:scrub"],
    "drift-sign-cosign": ["signing:cosign", "verification:cosign"],
    "drift-sign-intoto": ["signing:in-toto", "verification:in-toto"],
    "drift-sign-notation": ["signing:notary-v2", "verification:notary-v2"],
    "drift-sign-simple": ["signing:simple", "verification:simple"],
    "drift-storage-cached": ["storage:cached"],
    "drift-storage-fs": ["storage:filesystem"],
    "drift-storage-packed": ["storage:packed"],
    "drift-storage-s3": ["storage:s3", "storage:ghostbay"],
    "drift-tracing": ["features:tracing"],
    "drift-transfer": [],
    "drift-webhooks": ["features:webhooks"],
    "drift-ui": ["features:ui"],
    "drift-http-granian": ["transport:granian"],
    "drift-http-httptools": ["transport:http"],
}
CHOSEN = {
    "drift-audit": ("audit.enabled=true",),
    "drift-auth-basic": ('auth.basic.users=["ann:a long password"]',),
    "drift-auth-certificate": ("auth.mode=certificate", "tls.client_ca_file={certificate}"),
    "drift-auth-oidc": ("auth.mode=oidc", "auth.oidc.issuer=https://login.example.org", "auth.oidc.client_id=drift"),
    "drift-auth-token": ("auth.mode=token",),
    "drift-bolt": ("bolt.enabled=true",),
    "drift-gc": ("garbage_collector.enabled=true",),
    "drift-http-granian": ("granian.enabled=true",),
    "drift-optimize": ("optimization.enabled=true",),
    "drift-quota": ("quota.enabled=true",),
    "drift-rbac": ("rbac.enabled=true",),
    "drift-retention": ("retention.enabled=true",),
    "drift-scrub": ("scrub.enabled=true",),
    "drift-tracing": ("tracing.enabled=true",),
    "drift-webhooks": ("webhooks.enabled=true",),
    "drift-sign-cosign": ("signing.enabled=true",),
    "drift-sign-intoto": ("signing.enabled=true",),
    "drift-sign-notation": ("signing.enabled=true",),
    "drift-sign-simple": ("signing.enabled=true",),
    "drift-storage-cached": ('storage.layers=["cached"]',),
    "drift-storage-packed": ('storage.layers=["packed"]',),
}
"""What makes the configuration choose it."""

BESIDE = {"drift-storage-cached": ["drift-storage-fs"], "drift-storage-packed": ["drift-storage-fs"]}
"""What a plugin cannot work without: a layer lies around a store."""

FEW = {
    "storage": ("storage.round-trip", "storage.ranges", "storage.unknown-blob"),
    "transport": ("transport.get", "transport.partial-content", "transport.upload"),
    # What it may import beside the core is known to its own tests (ADR 17).
    "signing:in-toto": ("plugin.config-round-trip", "plugin.opens-twice", "plugin.closes-clean"),
}
"""Of suites that take a minute, what shows that nothing is missing; the whole runs from the plugins' own tests."""

BUILD = """
import os, sys
from hatchling.build import build_wheel
for source in sys.argv[2:]:
    os.chdir(source)
    build_wheel(sys.argv[1])
"""
"""As `python -m build --no-isolation` does, which starts two programs for each wheel."""

BUDGET = 0.1
"""Most of the time to import Litestar that it may take to import a plugin which is not chosen."""


def test_every_plugin_of_the_repository_is_tried() -> None:
    assert {path.name for path in ROOT.glob("plugins/drift-*")} == set(PLUGINS)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the core and of each plugin, by distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = {"drift-core": ROOT, **{name: ROOT / "plugins" / name for name in PLUGINS}}
    build = [sys.executable, "-c", BUILD, str(folder), *map(str, sources.values())]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {}
    for name in sources:
        (built[name],) = folder.glob(f"{name.replace('-', '_')}-*.whl")
    # What they require is fetched once, and not by each environment.
    every = [f"{built['drift-core']}[conformance]", *(str(built[name]) for name in PLUGINS)]
    pip("download", "--quiet", "--dest", str(folder), "--constraint", str(ROOT / "constraints.txt"), *every)
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Environment:
    """A new virtual environment with what is named, and nothing else of ours; works in an empty folder.

    ``base`` is one that has some of it, and is copied.
    """

    def __init__(self, folder: Path, *packages: str, base: "Environment | None" = None) -> None:
        self.programs = folder / "venv/bin"
        self.folder = folder
        if base is None:
            venv.create(folder / "venv")
        else:
            copy_environment(base.programs.parent, folder / "venv")
        found = str(Path(packages[0]).parent)
        options = ("--quiet", "--no-index", "--find-links", found)
        pip("--python", str(self.programs / "python"), "install", *options, *packages)

    def run(self, program: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def drift(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("drift", *arguments, code=code)


def copy_environment(source: Path, target: Path) -> None:
    """Copies a virtual environment without the bytes of its packages, which nobody changes."""
    libraries = source / "lib"
    shutil.copytree(source, target, symlinks=True, ignore=lambda place, _: {"lib"} if place == str(source) else ())
    shutil.copytree(libraries, target / "lib", symlinks=True, copy_function=os.link)
    for script in (target / "bin").iterdir():
        if not script.is_symlink():
            # The first line names the interpreter.
            script.write_bytes(script.read_bytes().replace(f"#!{source}".encode(), f"#!{target}".encode(), 1))


@pytest.fixture(scope="module")
def core(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core with its conformance kit, which every plugin needs beside it."""
    return Environment(tmp_path_factory.mktemp("core"), f"{wheels['drift-core']}[conformance]")


def test_a_wheel_of_commands_works_with_only_the_core_beside_it(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path, str(wheels["drift-core"]), str(wheels["drift-transfer"]))
    for command in ("import", "export"):
        assert "Usage: drift" in environment.drift(command, "--help").stdout


@pytest.fixture
def chosen(name: str, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What makes the configuration choose a plugin."""
    if name != "drift-storage-s3":
        return CHOSEN.get(name, ())
    minio: Minio = request.getfixturevalue("minio")
    return tuple(minio.settings(minio.new_bucket()))


@pytest.fixture(scope="module")
def minio() -> Iterator[Minio]:
    with Minio() as minio:
        yield minio


@pytest.mark.parametrize("name", [name for name, offers in PLUGINS.items() if offers])
def test_a_wheel_works_with_only_the_core_beside_it(
    name: str, chosen: tuple[str, ...], wheels: dict[str, Path], core: Environment, tmp_path: Path
) -> None:
    needed = (str(wheels[one]) for one in (name, *BESIDE.get(name, ())))
    environment = Environment(tmp_path, *needed, base=core)
    driver = PLUGINS[name][0]
    rows = json.loads(environment.drift("plugins", "list", "--json").stdout)
    found = [(row["state"], row["offers"]) for row in rows if row["distribution"] == name]
    assert found == [("loaded", PLUGINS[name])]
    certificate, key = make_certificate(tmp_path)
    settings = [f"tls.cert_file={certificate}", f"tls.key_file={key}"]
    settings += [setting.replace("{certificate}", str(certificate)) for setting in chosen]
    options = [part for setting in settings for part in ("--set", setting)]
    some = FEW.get(driver) or FEW.get(driver.partition(":")[0], ())
    options += [part for rule in some for part in ("--rule", rule)]
    environment.drift("conformance", driver, *options, "--json", "out.json")
    rules = json.loads((tmp_path / "out.json").read_text())["rules"]
    # A suite of whom one has to know who may log in, or do what, runs from the plugin's own tests.
    assert len(rules) >= (len(some) or 6)
    assert {rule["outcome"] for rule in rules} <= {"pass", "skip"}


def test_the_core_alone_lists_explains_and_says_what_it_lacks(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path, str(wheels["drift-core"]))
    assert json.loads(environment.drift("plugins", "list", "--json").stdout) == []
    assert "ServerConfig" in json.loads(environment.drift("config", "schema").stdout)["$defs"]
    assert "no plugin is asked or told" in environment.drift("plugins", "explain", "manifest.push").stdout
    written = environment.drift("plugins", "new", "drift-storage-tape").stdout
    assert "drift-storage-tape" in written
    served = environment.drift("serve", code=1)
    assert "no installed plugin offers the storage driver 'filesystem'; drift-storage-fs provides it" in served.stderr
    assert "Traceback" not in served.stderr
    assert "pip install 'drift-core[conformance]'" in environment.drift("conformance", "storage:x", code=1).stderr


def test_a_server_without_a_transport_says_what_it_lacks(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path, str(wheels["drift-core"]), str(wheels["drift-storage-fs"]))
    served = environment.drift("serve", "--set", "server.workers=1", code=1)
    assert "no transport is installed and enabled; drift-http-httptools provides one" in served.stderr
    assert "Traceback" not in served.stderr


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_that_is_not_chosen_costs_nothing(name: str) -> None:
    """Its SDK is not imported, and the plugin itself takes a small part of the time that Litestar takes."""
    (module,) = {
        found.module.__name__ for found in discover(None, ()) if found.distribution == name and found.module is not None
    }
    program = f"import sys, drift_core.api, {module}; print(*sys.modules, sep='\\n'); import litestar"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], check=True, capture_output=True, text=True
    )
    assert sdk_of(name).isdisjoint(done.stdout.split())
    spent = {found[2]: int(found[1]) for found in re.finditer(r"\| +(\d+) \| +(\S+)$", done.stderr, re.MULTILINE)}
    assert spent[module] < BUDGET * spent["litestar"]


def sdk_of(distribution: str) -> set[str]:
    """Returns the modules of what a plugin requires, and the core does not."""
    required = {re.split(r"[^\w-]", line)[0] for line in requires(distribution) or []}
    ours = {"drift-core", *(re.split(r"[^\w-]", line)[0] for line in requires("drift-core") or [])}
    modules = packages_distributions()
    return {module for module, owners in modules.items() if not (required - ours).isdisjoint(owners)}


def test_the_sdk_of_a_plugin_is_known() -> None:
    assert sdk_of("drift-http-granian") == {"granian"}
