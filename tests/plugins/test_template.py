"""`drift plugins new`: what it writes is clean, builds, installs, passes its own tests, and serves."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from drift_core.scaffold import SUMMARIES, TEMPLATES
from tests.conformance_oci.suite import check_every_test_passes
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server
from tests.tools import ROOT

PROGRAMS = Path(sys.executable).parent


class Plugin:
    """A generated distribution, built and unpacked as pip does; ``store`` is put in place of the template's."""

    def __init__(self, family: str, folder: Path, driver: str = "tape", store: Path | None = None) -> None:
        self.name = f"drift-{family}-{driver}"
        self.installation = Installation(folder / "site")
        done = self.installation.drift("plugins", "new", self.name, "--family", family, "--folder", str(folder))
        assert done.returncode == 0, done.stderr
        self.source = folder / self.name
        if store is not None:
            shutil.copy(store, self.source / "src" / self.name.replace("-", "_"))
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(self.source)]
        subprocess.run(build, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder / "site")

    def run(self, *command: str) -> str:
        """Runs a program of the environment in the source folder; it must succeed."""
        done = subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=self.source,
            env={**os.environ, "PYTHONPATH": str(self.installation.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=sorted(SUMMARIES))
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    return Plugin(request.param, tmp_path_factory.mktemp(request.param))


def test_it_is_loaded(plugin: Plugin) -> None:
    (row,) = plugin.installation.plugins()["tape"]
    family = plugin.name.split("-")[1]
    offers = ["signing:tape", "verification:tape"] if family == "signing" else [f"{family}:tape"]
    assert (row["distribution"], row["state"], row["offers"]) == (plugin.name, "loaded", offers)


def test_it_passes_its_own_tests(plugin: Plugin) -> None:
    assert "passed" in plugin.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the core, which is the same for each of them."""
    return tmp_path_factory.mktemp("mypy")


def test_it_is_clean(plugin: Plugin, mypy_cache: Path) -> None:
    rules = ["--select=E,F,I,B,UP,ANN,ASYNC,RET,SIM,RUF", "--ignore=ANN401"]
    plugin.run("ruff", "check", "--isolated", "--line-length=120", *rules, "src", "tests")
    plugin.run("ruff", "format", "--isolated", "--line-length=120", "--check", "src", "tests")
    plugin.run("mypy", "--strict", f"--cache-dir={mypy_cache}", "src", "tests")


@pytest.mark.parametrize("family", ["signing", "optimization"])
def test_it_shares_its_table_and_is_proved_as_installed(family: str, tmp_path: Path) -> None:
    """What the core reads of the table is no unknown key to the driver; what nobody reads is one."""
    installation = Plugin(family, tmp_path).installation
    done = installation.drift("conformance", f"{family}:tape", "--set", f"{family}.enabled=true")
    assert done.returncode == 0, done.stdout + done.stderr
    done = installation.drift("config", "check", "--set", f"{family}.enabled=true", "--set", f"{family}.enabeld=true")
    message = f"Error: {family}.enabeld: unknown key; did you mean {family}.enabled?\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_a_store_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("storage", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(plugin.installation.folder))
    manifest, layer = image(EMPTY_CONFIG), unique_blob(2 << 20)
    with Server(tmp_path / "server", "storage.type=tape", f"storage.tape.path={tmp_path / 'tape'}") as server:
        url = f"{server.url}/v2/app"
        for blob in (EMPTY_CONFIG, layer):
            assert httpx.post(f"{url}/blobs/uploads/?digest={blob.digest}", content=blob.content).status_code == 201
        headers = {"content-type": manifest.media_type}
        assert httpx.put(f"{url}/manifests/v1", content=manifest.content, headers=headers).status_code == 201
        assert httpx.get(f"{url}/blobs/{layer.digest}").content == layer.content
    assert (tmp_path / "tape/blobs" / layer.digest).read_bytes() == layer.content


def test_a_feature_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("features", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(plugin.installation.folder))
    with Server(tmp_path / "server", 'tape.frozen=["legacy/*"]') as server:
        assert httpx.get(f"{server.url}/tape").json() == ["legacy/*"]


def test_an_authenticator_and_a_policy_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login, policy = Plugin("authn", tmp_path / "authn", "door"), Plugin("authz", tmp_path / "authz", "guests")
    folders = [str(plugin.installation.folder) for plugin in (login, policy)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    program = "from drift_authn_door.authenticator import entry; print(entry('ann', 'secret', 1000))"
    users = f'auth.door.users=["{login.run("python", "-c", program).strip()}"]'
    settings = ("auth.mode=door", 'auth.policies=["guests"]', users, 'guests.writers=["bob"]')
    with Server(tmp_path / "server", *settings) as server:
        url = f"{server.url}/v2/app/blobs/uploads/"
        refused = httpx.post(url)
        assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Basic")
        assert httpx.post(url, auth=("ann", "wrong")).status_code == 401
        assert httpx.get(f"{server.url}/v2/", auth=("ann", "secret")).status_code == 200
        assert httpx.post(url, auth=("ann", "secret")).status_code == 403


def test_a_transport_serves_the_whole_oci_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("transport", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(plugin.installation.folder))
    settings = ('plugins.disabled=["http-httptools"]', "registry.sparse_manifests=true")
    with Server(tmp_path / "server", *settings) as server:
        check_every_test_passes("dev", server.host, tmp_path)


BAD_NAMES = ["Drift-Tape", "drift_tape", "tape-", "-tape", "a--b", "", "../tape", "tape/x", "1tape"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_writes_nothing(tmp_path: Path, name: str) -> None:
    done = Installation(tmp_path / "site").drift("plugins", "new", "--folder", str(tmp_path / "new"), "--", name)
    assert done.returncode == 1
    assert "is not a name for a distribution" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["json", "drift-core", "drift-storage-fs"])
def test_a_name_that_would_hide_a_module_writes_nothing(name: str, tmp_path: Path) -> None:
    done = Installation(tmp_path / "site").drift("plugins", "new", name, "--folder", str(tmp_path / "new"))
    assert done.returncode == 1
    assert f"its module {name.replace('-', '_')} would hide one that is installed" in done.stderr
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "drift-tape").mkdir()
    done = Installation(tmp_path / "site").drift("plugins", "new", "drift-tape", "--folder", str(tmp_path))
    assert (done.returncode, "File exists" in done.stderr) == (1, True)
    assert list((tmp_path / "drift-tape").iterdir()) == []


def test_the_wheel_has_the_templates(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = {str(path.relative_to(ROOT)) for path in TEMPLATES.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files <= set(zipfile.ZipFile(wheel).namelist())
