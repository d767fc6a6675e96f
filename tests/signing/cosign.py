"""Runs a real cosign that asks nobody outside this machine."""

import os
import subprocess
from pathlib import Path

from tests.faults.inspection import PATIENCE
from tests.tools import tool

PASSWORD = "pass word"


class Cosign:
    """The client, with a folder for its keys and its login."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.program = tool(program)
        self.newest = program == "cosign"

    def run(self, *words: str, good: bool = True) -> str:
        """Runs a command that is to succeed, or to fail, and returns all that it said."""
        environment = {
            **os.environ,
            "COSIGN_PASSWORD": PASSWORD,
            "DOCKER_CONFIG": str(self.folder),
            "HOME": str(self.folder),
            "SIGSTORE_NO_CACHE": "1",
        }
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) is good, said
        return said

    def sign(self, image: str, key: str, *words: str, good: bool = True) -> str:
        offline = ["--tlog-upload=false", *(["--use-signing-config=false"] if self.newest else [])]
        return self.run("sign", "--key", key, *offline, *words, "-y", image, good=good)

    def attest(self, image: str, key: str, *words: str) -> str:
        offline = ["--tlog-upload=false", *(["--use-signing-config=false"] if self.newest else [])]
        return self.run("attest", "--key", key, *offline, *words, "-y", image)

    def verify(self, image: str, key: str, *words: str, good: bool = True) -> str:
        root = [] if self.newest else ["--trusted-root", str(self.folder / "root.json")]
        return self.run("verify", "--key", key, "--insecure-ignore-tlog", *root, *words, image, good=good)
