"""Brings a server to a large state: by real pushes, or, where those take minutes, by writing what it has on its disk.

What is written on the disk of a peer copies what one really pushed image left there; every state is counted through the
API afterwards.
"""

import os
import re
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import json

from benchmarks.images import PATIENCE, Image, digest_of
from benchmarks.load import Plan, Request
from benchmarks.servers import Running, running
from benchmarks.workload import Stage

REF_NAME = "org.opencontainers.image.ref.name"
DISTRIBUTION_REPOSITORIES = "data/docker/registry/v2/repositories"
PUSHING_CONNECTIONS = 64

Write = Callable[[Path, Image], None]
"""Adds the rest to the folder of a server that is stopped and holds the model."""


def seeded(
    stage: Stage,
    part: str,
    model: Callable[[Running], Image],
    plans: Callable[[Image], list[Plan]],
    write: Mapping[str, Write],
) -> Running:
    """Starts a server that got the model and then the rest: written on its disk if ``write`` knows it, else pushed."""
    if stage.name in write:
        with running(stage.name, stage.folder / part) as server:
            image = model(server)
        write[stage.name](stage.folder / part, image)
        return stage.start(part)
    server = stage.start(part)
    for plan in plans(model(server)):
        stage.send(server, plan)
    return server


def puts(path: str, body: bytes, media_type: str, count: int) -> Plan:
    """Returns the plan that PUTs so many manifests; ``%d`` in path and body is the number of each."""
    request = Request(path, "PUT", 201, type=media_type, body=body.decode())
    return Plan(PUSHING_CONNECTIONS, iterations=count, requests=[request])


def count_listed(server: Running, path: str, field: str) -> int:
    """Returns how many entries a list has, of all of its pages."""
    found, following = 0, path
    while following:
        with urllib.request.urlopen(f"http://{server.address}{following}", timeout=PATIENCE) as answer:
            found += len(json.decode(answer.read())[field])
            link = re.match(r"<(?:https?://[^/]+)?([^>]+)>", answer.headers.get("Link", ""))
        following = link[1] if link else ""
    return found


def expect_listed(server: Running, path: str, field: str, count: int) -> None:
    """Raises RuntimeError unless a list has so many entries: another state would measure something else."""
    found = count_listed(server, path, field)
    if found != count:
        raise RuntimeError(f"{server.name}: {found} entries of {path}, not {count}")


def distribution_tags(folder: Path, repository: str, names: list[str]) -> None:
    """Gives a repository of distribution more tags of the image that is `v1`."""
    tags = folder / DISTRIBUTION_REPOSITORIES / repository / "_manifests/tags"
    _repeat(tags / "v1", [tags / name for name in names])


def distribution_repositories(folder: Path, model: str, names: list[str]) -> None:
    """Gives distribution copies of a repository."""
    root = folder / DISTRIBUTION_REPOSITORIES
    _repeat(root / model, [root / name for name in names])


def zot_tags(folder: Path, repository: str, names: list[str]) -> None:
    """Gives a repository of zot more tags of the image that is `v1`."""
    _add_to_zot(folder, repository, [{"annotations": {REF_NAME: name}} for name in names])


def zot_manifests(folder: Path, repository: str, manifests: Mapping[str, bytes]) -> None:
    """Gives a repository of zot further manifests, by tag."""
    added: list[dict[str, Any]] = []
    for tag, content in manifests.items():
        digest = digest_of(content)
        (folder / "data" / repository / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(content)
        added.append({"digest": digest, "size": len(content), "annotations": {REF_NAME: tag}})
    _add_to_zot(folder, repository, added)


def zot_repositories(folder: Path, model: str, names: list[str]) -> None:
    """Gives zot copies of a repository."""
    root = folder / "data"
    _repeat(root / model, [root / name for name in names])


def _add_to_zot(folder: Path, repository: str, entries: list[dict[str, Any]]) -> None:
    """Adds entries to the index of a repository, with the first one's fields where they have none."""
    file = folder / "data" / repository / "index.json"
    index = json.decode(file.read_bytes())
    index["manifests"] += [index["manifests"][0] | entry for entry in entries]
    file.write_bytes(json.encode(index))


def _repeat(model: Path, copies: list[Path]) -> None:
    """Copies a folder many times: a thousand copies share a file, of which no more than 65,000 links are allowed."""
    folders = sorted(path.relative_to(model) for path in model.rglob("*") if path.is_dir())
    files = [path.relative_to(model) for path in model.rglob("*") if path.is_file()]
    for number, copy in enumerate(copies):
        copy.mkdir(parents=True)
        for folder in folders:
            (copy / folder).mkdir()
        for file in files:
            if number % 1000 == 0:
                (copy / file).write_bytes((model / file).read_bytes())
            else:
                os.link(copies[number - number % 1000] / file, copy / file)
