"""Runs `drift import` and `drift export`, fills registries by real clients, and compares what two of them give."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import couriers
from tests.clients.image_layout import DOCKER, ImageLayout, content, differences
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.clients.test_referrers import attach_with_oras, attach_with_regctl
from tests.server import DRIFT
from tests.tools import ROOT

PATIENCE = 300.0


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed as JSON."""

    code: int
    counts: dict[str, Any]
    errors: str

    def copied(self) -> tuple[int, int, int]:
        """How many tags, manifests and blobs."""
        return tuple(self.counts[kind]["copied"] for kind in ("tags", "manifests", "blobs"))

    def failures(self) -> set[tuple[str, str]]:
        """What failed: its kind, and its path or URL."""
        return {(failure["kind"], failure["place"]) for failure in self.counts["failures"]}

    def reasons(self, kind: str) -> str:
        """Why things of a kind failed."""
        return " ".join(failure["reason"] for failure in self.counts["failures"] if failure["kind"] == kind)


def command(*arguments: str | Path, folder: Path, settings: tuple[str, ...] = ()) -> list[str]:
    """Returns a command line of drift for the registry whose data lie in ``folder / "data"``."""
    overrides = (f"storage.path={folder / 'data'}", "logging.level=warning", *settings)
    return [str(DRIFT), *map(str, arguments), *(part for one in overrides for part in ("--set", one))]


def drift(
    *arguments: str | Path,
    folder: Path,
    settings: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    data: str = "",
) -> Done:
    """Runs ``drift ARGUMENTS --json`` to its end."""
    ended = subprocess.run(
        command(*arguments, "--json", folder=folder, settings=settings),
        cwd=ROOT,
        env=environment,
        input=data,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Done(ended.returncode, json.loads(ended.stdout or "{}"), ended.stderr)


@dataclass(frozen=True)
class Filled:
    """What is in a registry: its repositories with their tags, a manifest without one, and what refers to ``v1``."""

    tags: dict[str, set[str]]
    untagged: str
    subject: str
    referrers: set[str]


def fill(run: Programs, host: str, folder: Path) -> Filled:
    """Pushes every kind of content with real clients to ``team/app``, ``a/b/c/d/e``, ``docker/list`` and ``copied``."""
    multi = ImageLayout(folder / "multi")
    index = multi.tag(multi.add_multi_platform(1))
    couriers.push(run, "crane", multi.folder, f"{host}/team/app:v1")
    run("crane", "tag", "--insecure", f"{host}/team/app:v1", "v2")
    moved = []
    for number, client in enumerate(("regctl", "oras")):
        image = ImageLayout(folder / f"image-{number}")
        moved.append(image.tag(image.add_image(10 + number)))
        couriers.push(run, client, image.folder, f"{host}/team/app:moved")
    docker = ImageLayout(folder / "docker")
    docker.tag(docker.add_multi_platform(20, DOCKER))
    couriers.push(run, "crane", docker.folder, f"{host}/docker/list:v1")
    couriers.push(run, "skopeo", multi.folder, f"{host}/a/b/c/d/e:deep")
    run("crane", "copy", "--insecure", f"{host}/docker/list:v1", f"{host}/copied:v1")
    referrers = {
        attach_with_oras(run, f"{host}/team/app:v1", "application/spdx+json", '{"by":"oras"}'),
        attach_with_regctl(run, f"{host}/team/app:v1", "application/vnd.example.signature.v1", "by regctl"),
    }
    return Filled(catalog(run, host), moved[0]["digest"], index["digest"], referrers)


def catalog(run: Programs, host: str) -> dict[str, set[str]]:
    """Returns every repository and its tags, as crane lists them."""
    names = run("crane", "catalog", "--insecure", host).lines()
    return {name: set(run("crane", "ls", "--insecure", f"{host}/{name}").lines()) for name in names}


def assert_same(run: Programs, old: str, new: str, tags: dict[str, set[str]], folder: Path) -> None:
    """Pulls every tag from both with crane: digests, and all bytes that they reach."""
    for name, every in tags.items():
        for tag in every:
            reference = f"{name}:{tag}"
            digests = {run("crane", "digest", "--insecure", f"{host}/{reference}").text for host in (old, new)}
            assert len(digests) == 1, reference
            pulled = []
            for number, host in enumerate((old, new)):
                layout = folder / f"{number}" / name / tag
                layout.parent.mkdir(parents=True, exist_ok=True)
                run("crane", "pull", "--insecure", "--format=oci", f"{host}/{reference}", layout)
                opened = ImageLayout(layout)
                pulled.append(content(opened.root(), opened.read))
            assert len(pulled[0]) > 1
            assert differences(*pulled) == [], reference


def assert_complete(run: Programs, old: str, new: str, filled: Filled, folder: Path) -> None:
    """Also what is not tagged, and the referrers, which Drift knows by itself."""
    assert catalog(run, new) == filled.tags
    assert_same(run, old, new, filled.tags, folder)
    before, after = RegistryApi(old), RegistryApi(new)
    assert {found["digest"] for found in after.referrers("team/app", filled.subject)} >= filled.referrers
    for digest in (filled.untagged, *filled.referrers):
        found = [api.manifest("team/app", digest) for api in (before, after)]
        assert found[0].body == found[1].body
