"""Workloads about large registries: pages of tags, of the catalogue and of referrers, and a push beside many tags."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import json

from benchmarks import seeding
from benchmarks.images import CONFIG, CONFIG_TYPE, MANIFEST, PATIENCE, Image, call, digest_of, push_image
from benchmarks.load import Plan, Push, Request
from benchmarks.servers import Running
from benchmarks.workload import ITSELF, Bar, Case, Lacking, Scale, Stage, Workload

FEW = 100
PAGE = 100
SMALL_LAYER = b"one small layer " * 64
CONNECTIONS = 4
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY_INDEX = json.encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
"""The smallest manifest, which makes a repository with one request."""


def listing(scale: Scale) -> list[Workload]:
    """Returns the workloads about large registries."""
    return [_tags(scale), _catalogue(scale), _referrers(scale)]


def page(server: Running, path: str) -> Request:
    """Returns the request of a page, which has to have the length that it has now."""
    with urllib.request.urlopen(f"http://{server.address}{path}", timeout=PATIENCE) as answer:
        return Request(path, length=len(answer.read()))


def _page_case(stage: Stage, server: Running, path: str, scale: Scale) -> Case:
    return stage.requests(server, Plan(CONNECTIONS, seconds=scale.seconds), [page(server, path)])


def _page_bars(few: str) -> tuple[Bar, ...]:
    return (Bar("p99", 2.0, ITSELF, beside=few), Bar("throughput", 20.0, at_least=True))


def _same_images(server: Running, repositories: Iterable[str]) -> Image:
    """Pushes the small image into each repository, and returns one of them: they have the same bytes."""
    images = [push_image(server, repository, SMALL_LAYER) for repository in repositories]
    return images[0]


def _tags(scale: Scale) -> Workload:
    sizes = {"bench/few": FEW, "bench/many": scale.tags}
    few, many = (f"tags page of {size:,}" for size in sizes.values())
    empty, full = "push into an empty repository", f"push into a repository of {scale.tags:,} tags"

    def model(server: Running) -> Image:
        return _same_images(server, sizes)

    def plans(image: Image) -> list[Plan]:
        return [
            seeding.puts(f"/v2/{repository}/manifests/t%d", image.content, MANIFEST, size - 1)
            for repository, size in sizes.items()
        ]

    def written(add: Callable[[Path, str, list[str]], None]) -> seeding.Write:
        def write(folder: Path, _: Image) -> None:
            for repository, size in sizes.items():
                add(folder, repository, [f"t{number}" for number in range(size - 1)])

        return write

    writers = {"distribution": written(seeding.distribution_tags), "zot": written(seeding.zot_tags)}

    def pushes(repository: str) -> Callable[[int], Plan]:
        push = "w{}-%d"
        return lambda number: Plan(
            CONNECTIONS,
            seconds=scale.seconds,
            iterations=scale.count(400),
            push=Push(repository.format(number), push.format(number), 1024),
        )

    def prepare(stage: Stage) -> dict[str, Case]:
        server = seeding.seeded(stage, "server", model, plans, writers)
        for repository, size in sizes.items():
            seeding.expect_listed(server, f"/v2/{repository}/tags/list?n={scale.tags}", "tags", size)
        middle = f"/v2/bench/many/tags/list?n={PAGE}&last=t{scale.tags // 2}"
        return {
            few: _page_case(stage, server, f"/v2/bench/few/tags/list?n={PAGE}", scale),
            many: _page_case(stage, server, middle, scale),
            empty: stage.case(server, pushes("bench/empty{}")),
            full: stage.case(server, pushes("bench/many")),
        }

    bars = {many: _page_bars(few), full: (Bar("p50", 1.2, ITSELF, beside=empty),)}
    return Workload("many tags", "lists", prepare, bars)


def _catalogue(scale: Scale) -> Workload:
    few, many = (f"catalogue page of {size:,}" for size in (FEW, scale.repositories))

    def model(server: Running) -> Image:
        return push_image(server, "bench/model", SMALL_LAYER)

    def names(size: int) -> list[str]:
        return [f"bench/r{number}" for number in range(size - 1)]

    def started(stage: Stage, part: str, size: int) -> Running:
        def plans(_: Image) -> list[Plan]:
            return [seeding.puts("/v2/bench/r%d/manifests/v1", EMPTY_INDEX, INDEX, size - 1)]

        writers: dict[str, seeding.Write] = {
            "distribution": lambda folder, _: seeding.distribution_repositories(folder, "bench/model", names(size)),
            "zot": lambda folder, _: seeding.zot_repositories(folder, "bench/model", names(size)),
        }
        server = seeding.seeded(stage, part, model, plans, writers)
        seeding.expect_listed(server, "/v2/_catalog?n=1000", "repositories", size)
        return server

    def prepare(stage: Stage) -> dict[str, Case]:
        small, large = started(stage, "few", FEW), started(stage, "many", scale.repositories)
        middle = f"/v2/_catalog?n={PAGE}&last=bench/r{scale.repositories // 2}"
        return {
            few: _page_case(stage, small, f"/v2/_catalog?n={PAGE}", scale),
            many: _page_case(stage, large, middle, scale),
        }

    return Workload("many repositories", "lists", prepare, {many: _page_bars(few)})


def referrer(subject: Image) -> bytes:
    """Returns a manifest that names a subject and has ``%d`` for a number."""
    config = {"mediaType": CONFIG_TYPE, "digest": digest_of(CONFIG), "size": len(CONFIG)}
    manifest = subject.manifest
    return json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.report",
            "config": config,
            "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": manifest.digest, "size": manifest.length},
            "annotations": {"org.example.number": "%d"},
        }
    )


def _referrers(scale: Scale) -> Workload:
    sizes = {"bench/few": FEW, "bench/many": scale.referrers}
    few, many = (f"referrers page of {size:,}" for size in sizes.values())

    def model(server: Running) -> Image:
        image = _same_images(server, sizes)
        try:
            call(server, "GET", f"/v2/bench/few/referrers/{image.manifest.digest}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise Lacking("has none") from error
            raise
        return image

    def plans(image: Image) -> list[Plan]:
        return [
            seeding.puts(f"/v2/{repository}/manifests/r%d", referrer(image), MANIFEST, size)
            for repository, size in sizes.items()
        ]

    def write(folder: Path, image: Image) -> None:
        content = referrer(image).decode()
        for repository, size in sizes.items():
            manifests = {f"r{number}": content.replace("%d", str(number)).encode() for number in range(size)}
            seeding.zot_manifests(folder, repository, manifests)

    def prepare(stage: Stage) -> dict[str, Case]:
        server = seeding.seeded(stage, "server", model, plans, {"zot": write})
        cases: dict[str, Case] = {}
        for name, (repository, size) in zip((few, many), sizes.items(), strict=True):
            digest = push_image(server, repository, SMALL_LAYER).manifest.digest
            path = f"/v2/{repository}/referrers/{digest}"
            seeding.expect_listed(server, path, "manifests", size)
            cases[f"{name}, n={PAGE}"] = _page_case(stage, server, f"{path}?n={PAGE}", scale)
            cases[name] = _page_case(stage, server, path, scale)
        return cases

    bars = {
        f"{many}, n={PAGE}": (Bar("p99", 2.0, ITSELF, beside=f"{few}, n={PAGE}"),),
        many: (Bar("throughput", 20.0, at_least=True),),
    }
    return Workload("many referrers", "lists", prepare, bars)
