"""Each plugin's wheel installs beside nothing but the core, and works there."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.tools import ROOT

PLUGINS = {"drift-storage-fs": "storage:filesystem", "drift-http-granian": "transport:http"}


def test_every_plugin_of_the_repository_is_tried() -> None:
    assert {path.name for path in ROOT.glob("plugins/drift-*")} == set(PLUGINS)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the core and of each plugin, by distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    built = {}
    for name, source in {"drift-core": ROOT, **{name: ROOT / "plugins" / name for name in PLUGINS}}.items():
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        (built[name],) = folder.glob(f"{name.replace('-', '_')}-*.whl")
    return built


@pytest.mark.parametrize("name", PLUGINS)
def test_a_wheel_works_with_only_the_core_beside_it(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv/bin"
    install = [str(programs / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*install, str(wheels["drift-core"]), str(wheels[name])], check=True, cwd=tmp_path)
    listed = subprocess.run(
        [str(programs / "drift"), "plugins", "list", "--json"], check=True, capture_output=True, cwd=tmp_path
    )
    rows = json.loads(listed.stdout)
    assert [(row["distribution"], row["state"], row["offers"]) for row in rows] == [(name, "loaded", [PLUGINS[name]])]
    schema = subprocess.run(
        [str(programs / "drift"), "config", "schema"], check=True, capture_output=True, cwd=tmp_path
    )
    assert "ServerConfig" in json.loads(schema.stdout)["$defs"]
