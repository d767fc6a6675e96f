"""Which base an image stands on, and that its tag has moved on, as a server and the command say it."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server import DRIFT
from tests.tools import ROOT

from .corpus import Image, Layer, Tar
from .registry import Optimized


def layer(name: str) -> Layer:
    return Layer(Tar().dir("etc").file(f"etc/{name}", name.encode() * 100).end())


LIBC, LIBC2, SHELL, APP = (layer(name) for name in ("libc", "libc2", "shell", "app"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    on = "optimization.enable_base_image_optimization=true"
    with Optimized(tmp_path_factory.mktemp("lineage"), on) as registry:
        yield registry


def standing(registry: Optimized, repository: str, tag: str) -> dict[str, Any]:
    answer = registry.client.get("/admin/optimize/bases", params={"repository": repository, "reference": tag})
    answer.raise_for_status()
    (found,) = answer.json()
    return dict(found)


def push(registry: Optimized, repository: str, tag: str, *layers: Layer, **annotations: str) -> str:
    image = Image(layers, annotations={name.replace("_", "."): value for name, value in annotations.items()})
    digest = registry.push(repository, tag, image)
    registry.ended(repository, digest)
    return digest


def test_a_base_is_found_and_moves_on(registry: Optimized) -> None:
    push(registry, "base/libc", "12", LIBC)
    base = push(registry, "base/shell", "12", LIBC, SHELL)
    push(registry, "team/app", "1", LIBC, SHELL, APP)
    found = standing(registry, "team/app", "1")
    assert (found["platform"], found["base"]["layers"], found["outdated"]) == ("linux/amd64", 2, [])
    assert [image["reference"] for image in found["base"]["images"]] == ["base/shell:12"]
    # The shell stands on libc, and nothing on the app.
    assert standing(registry, "base/shell", "12")["base"]["images"][0]["reference"] == "base/libc:12"
    assert standing(registry, "base/libc", "12")["base"] is None
    newer = push(registry, "base/shell", "12", LIBC2, SHELL)
    (moved,) = standing(registry, "team/app", "1")["outdated"]
    assert (moved["reference"], moved["was"], moved["now"]["digest"]) == ("base/shell:12", base, newer)


def test_an_annotation_names_the_base_by_its_registry(registry: Optimized) -> None:
    named = {"org_opencontainers_image_base_name": "registry.example.org/base/os:1"}
    old = push(registry, "base/os", "1", LIBC)
    named["org_opencontainers_image_base_digest"] = old
    push(registry, "team/annotated", "1", LIBC, APP, **named)
    assert standing(registry, "team/annotated", "1")["outdated"] == []
    newer = push(registry, "base/os", "1", LIBC2)
    assert [one["now"]["digest"] for one in standing(registry, "team/annotated", "1")["outdated"]] == [newer]


def test_the_command(registry: Optimized) -> None:
    push(registry, "base/tool", "1", SHELL)
    push(registry, "team/tool", "1", SHELL, APP)
    command = [str(DRIFT), "optimize", "base", "team/tool:1", *registry.server.arguments()]
    wide = os.environ | {"COLUMNS": "200"}

    def said(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, *options], cwd=ROOT, env=wide, capture_output=True, text=True, check=False)

    done = said()
    assert (done.returncode, done.stdout) == (0, "linux/amd64: stands on base/tool:1\n"), done.stderr
    newer = push(registry, "base/tool", "1", LIBC2)
    done = said()
    assert done.returncode == 1
    assert "  base/tool:1 was sha256:" in done.stdout
    assert f"and names {newer} by now" in done.stdout
    assert json.loads(said("--json").stdout)[0]["outdated"][0]["now"]["digest"] == newer


def test_what_is_not_there(registry: Optimized) -> None:
    answer = registry.client.get("/admin/optimize/bases", params={"repository": "team/none", "reference": "1"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
