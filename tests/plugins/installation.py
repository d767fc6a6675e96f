"""Installs throw-away plugins into a folder, as pip would, and runs `drift` with that folder on the path."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.server import DRIFT, ROOT


class Installation:
    """A folder of plugin distributions beside those of the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        distribution: str,
        entry_points: dict[str, str],
        modules: dict[str, str],
        version: str = "1.0",
        requires: str | None = None,
    ) -> None:
        """Writes one distribution: its metadata with entry points, and its modules by their paths without ``.py``."""
        metadata = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        needs = "" if requires is None else f"Requires-Dist: {requires}\n"
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
        lines = "\n".join(f"{name} = {module}" for name, module in entry_points.items())
        (metadata / "entry_points.txt").write_text(f"[drift.plugins]\n{lines}\n")
        for name, source in modules.items():
            file = self.folder / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)

    def drift(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command and returns what it said."""
        return subprocess.run(
            [str(DRIFT), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def plugins(self, *arguments: str, **environment: str) -> dict[str, list[dict[str, Any]]]:
        """Returns the rows of `drift plugins list --json` by plugin name."""
        done = self.drift("plugins", "list", "--json", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in json.loads(done.stdout):
            rows.setdefault(row["name"], []).append(row)
        return rows
