"""The image: its Dockerfile names what is there, and the long form builds it and looks into what came out."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drift_core.config import CORE_TABLES, load
from tests.deploy.dockerfile import DOCKERFILE, image, instructions
from tests.tools import ROOT, tool

IGNORED = DOCKERFILE.with_name("Dockerfile.dockerignore")
BASE = "docker.io/library/python:3.13-slim"
PATIENCE = 1200.0
"""Seconds after which a build counts as hanging."""


def copied() -> list[str]:
    """Returns what is copied from the repository."""
    from_it = [text.split()[:-1] for name, text in instructions() if name == "COPY" and not text.startswith("--from")]
    return [source for sources in from_it for source in sources]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    let_in = {line[1:] for line in IGNORED.read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == let_in
    assert all((ROOT / source).exists() for source in copied())


def test_it_is_built_from_nothing_that_was_not_pinned() -> None:
    installs = [text for name, text in instructions() if name == "RUN" and "pip install" in text]
    assert installs
    assert all(text.count("pip install") == text.count("--constraint constraints.txt") for text in installs)


def test_the_user_is_nobody_and_owns_the_data() -> None:
    (made,) = [text for name, text in instructions() if name == "RUN" and "chown" in text]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image().user)
    assert f"chown {image().user} {image().folder}" in made


def test_its_configuration_listens_to_others_and_lets_nobody_in() -> None:
    file = DOCKERFILE.with_name("drift.toml")
    config = load(file, {}, ())
    (exposed,) = [text for name, text in instructions() if name == "EXPOSE"]
    assert config.server.bind_addr == f"0.0.0.0:{exposed}"
    assert config.storage.path == image().folder
    assert config.auth is not None
    assert config.auth.mode == "basic"
    assert set(config.document) <= set(CORE_TABLES)
    copied_to = [text.split()[-1] for name, text in instructions() if name == "COPY" and "drift.toml" in text]
    assert copied_to == [image().environment["DRIFT_CONFIG"]]


class Buildah:
    """buildah with images of its own, and with what the base image would have borrowed from this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = Path(sys.base_prefix)
        borrowed = {path: path for path in (Path("/usr"), Path("/etc/ssl")) if path.exists()}
        # Written to while the image is built, by pip; what is written is thrown away.
        volumes = [f"{path}:{path}:ro" for path in borrowed]
        if self._python != Path("/usr"):
            volumes.append(f"{self._python}:{self._python}:O")
        links = os.environ.get("PIP_FIND_LINKS")
        if links and Path(links).is_dir():
            volumes.append(f"{links}:{links}:ro")
        self.volumes = [part for volume in volumes for part in ("--volume", volume)]
        self._targets = [volume.split(":")[1] for volume in volumes]

    def __call__(self, command: str, *arguments: str | Path) -> str:
        own = ["--root", self._folder / "root", "--runroot", self._folder / "run", "--storage-driver", "vfs"]
        done = subprocess.run(
            [tool("buildah"), *own, command, *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    def make_base(self) -> None:
        """Makes a stand-in for the base image, which nobody can pull here: Python, a shell and nothing else."""
        container = self("from", "scratch")
        root = Path(self("mount", container))
        for folder in ("tmp", "var/lib", "proc", "sys", "dev", *(target.strip("/") for target in self._targets)):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        self("umount", container)
        pip = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        variables = [f"PATH={self._python}/bin:/usr/sbin:/usr/bin:/sbin:/bin", *pip]
        self("config", *(part for one in variables for part in ("--env", one)), container)
        self("commit", container, BASE)


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    if os.geteuid() != 0:
        pytest.skip("buildah without root needs more of the machine")
    run = Buildah(tmp_path / "images")
    run.make_base()
    yield run
    run("rm", "--all")


@pytest.mark.soak
def test_the_image_is_built_and_runs(buildah: Buildah) -> None:
    build = ["--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker", *buildah.volumes]
    buildah("bud", *build, "--file", DOCKERFILE, "--ignorefile", IGNORED, "--tag", "drift", ROOT)
    said = json.loads(buildah("inspect", "--type", "image", "drift"))["Docker"]["config"]
    assert (said["User"], said["Entrypoint"], said["Cmd"]) == (image().user, ["drift"], ["serve"])
    assert said["Healthcheck"]["Test"] == ["CMD", *image().health]
    container = buildah("from", "--pull-never", "drift")
    within = ["--isolation", "chroot", *buildah.volumes, container, "--"]
    assert buildah("run", *within, "drift", "config", "check") == "the configuration is good"
    plugins = json.loads(buildah("run", *within, "drift", "plugins", "list", "--json"))
    listed = {plugin["distribution"] for plugin in plugins if plugin["state"] == "loaded"}
    assert listed == {path.name for path in ROOT.glob("plugins/drift-*")}
    look = (
        f"import os; found = os.stat({image().folder!r}); print(found.st_uid, found.st_gid, oct(found.st_mode & 0o777))"
    )
    assert buildah("run", *within, "python", "-c", look).split() == [*image().user.split(":"), "0o700"]
