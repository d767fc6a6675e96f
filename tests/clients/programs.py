"""Runs real client programs in a home folder of their own, and shows what they said when they fail."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools import tool

PATIENCE = 900.0
"""Seconds after which a client counts as hanging."""

POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


@dataclass(frozen=True)
class Output:
    """How a program ended and what it said."""

    code: int
    data: bytes
    errors: str

    @property
    def text(self) -> str:
        """What the program wrote to its standard output, without surrounding white space."""
        return self.data.decode().strip()

    def lines(self) -> list[str]:
        """Returns the lines of the standard output."""
        return self.text.splitlines()

    def json(self) -> Any:
        """Returns the standard output as parsed JSON."""
        return json.loads(self.data)


class Programs:
    """Runs programs that see nothing of the user's own configuration and credentials."""

    def __init__(self, home: Path, **environment: str) -> None:
        """Keeps every program's configuration, caches and temporary files below `home`; adds to their environment."""
        self.home = home
        containers = home / ".config" / "containers"
        for folder in (containers, home / "tmp", home / "run"):
            folder.mkdir(parents=True)
        (containers / "policy.json").write_text(json.dumps(POLICY))
        (containers / "registries.conf").write_text("unqualified-search-registries = []\n")
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "CONTAINERS_REGISTRIES_CONF": str(containers / "registries.conf"),
            **environment,
        }

    def __call__(
        self,
        name: str,
        *arguments: str | Path,
        data: bytes | None = None,
        folder: Path | None = None,
        may_fail: bool = False,
    ) -> Output:
        """Runs one program to its end; unless `may_fail`, an exit code other than 0 is an assertion error."""
        command = [tool(name), *map(str, arguments)]
        ended = subprocess.run(
            command,
            input=data if data is not None else b"",
            cwd=folder or self.home,
            env=self._environment,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        output = Output(ended.returncode, ended.stdout, ended.stderr.decode(errors="replace"))
        if output.code != 0 and not may_fail:
            said = f"{output.errors[-4000:]}\n{output.data[-1000:]!r}"
            raise AssertionError(f"{' '.join(command)} ended with {output.code}:\n{said}")
        return output
