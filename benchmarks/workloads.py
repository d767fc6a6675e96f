"""What is measured: each workload prepares a server once, and says what is sent in each round."""

import hashlib
import os
import urllib.request
from collections.abc import Callable, Sequence

from msgspec import Struct, json

from benchmarks.load import Plan, Push, Request
from benchmarks.servers import Running

MIB = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


class Image(Struct):
    """An image that every server got: the requests of its pull."""

    manifest: Request
    by_tag: Request
    config: Request
    layer: Request

    def pull(self) -> list[Request]:
        """Returns what a client sends: it looks for the tag, then fetches everything by digest."""
        look = Request(self.by_tag.path, "HEAD", length=self.by_tag.length)
        return [look, self.manifest, self.config, self.layer]


def digest_of(content: bytes) -> str:
    """Returns the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def call(server: Running, method: str, path: str, body: bytes | None = None, media_type: str = "") -> str:
    """Sends one request outside of what is measured, and returns the Location; raises where it is refused."""
    url = path if "://" in path else f"http://{server.address}{path}"
    headers = {"Content-Type": media_type or "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=120) as answer:
        return str(answer.headers.get("Location", ""))


def push_blob(server: Running, repository: str, content: bytes) -> Request:
    """Pushes a blob and returns the request that pulls it."""
    digest = digest_of(content)
    location = call(server, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    call(server, "PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", content)
    return Request(f"/v2/{repository}/blobs/{digest}", length=len(content), digest=digest)


def push_image(server: Running, repository: str, layer: bytes) -> Image:
    """Pushes an image of one layer as ``repository:v1``."""
    blobs = [push_blob(server, repository, content) for content in (CONFIG, layer)]
    kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar")
    config, described = (
        {"mediaType": kind, "digest": blob.digest, "size": blob.length} for kind, blob in zip(kinds, blobs, strict=True)
    )
    manifest = json.encode({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [described]})
    call(server, "PUT", f"/v2/{repository}/manifests/v1", manifest, MANIFEST)
    digest, length = digest_of(manifest), len(manifest)
    by_digest = Request(f"/v2/{repository}/manifests/{digest}", length=length, digest=digest)
    return Image(by_digest, Request(f"/v2/{repository}/manifests/v1", length=length, digest=digest), *blobs)


class Workload(Struct):
    """``prepare`` gets a server and returns what makes the plan of each round, from its number."""

    name: str
    prepare: Callable[[Running], Callable[[int], Plan]]


LAYERS = {size: os.urandom(size * MIB) for size in (1, 20, 200)}
"""Layers by their MiB; the same for every server."""


def reads(
    choose: Callable[[Image], list[Request]], size: int, plan: Plan
) -> Callable[[Running], Callable[[int], Plan]]:
    """Returns the preparation of a workload that pulls parts of one image."""

    def prepare(server: Running) -> Callable[[int], Plan]:
        requests = choose(push_image(server, "bench/app", LAYERS[size]))
        return lambda _: Plan(plan.connections, plan.seconds, plan.iterations, requests, plan.sequence)

    return prepare


def pushes(size: int, count: int, connections: int, chunk: int = 0) -> Callable[[Running], Callable[[int], Plan]]:
    """Returns the preparation of a workload that pushes images with a layer of ``size`` bytes."""

    def prepare(_: Running) -> Callable[[int], Plan]:
        return lambda number: Plan(
            connections, iterations=count, push=Push(f"bench/push{number}-%d", "v1", size, chunk)
        )

    return prepare


def heads(requests: Sequence[Request]) -> list[Request]:
    """Returns the same as HEAD."""
    return [Request(request.path, "HEAD", length=request.length) for request in requests]


WORKLOADS = (
    Workload("manifest GET", reads(lambda image: [image.by_tag, image.manifest], 1, Plan(8, 3))),
    Workload("manifest HEAD", reads(lambda image: heads([image.by_tag, image.manifest]), 1, Plan(8, 3))),
    Workload("blob GET 1 MiB", reads(lambda image: [image.layer], 1, Plan(4, 3))),
    Workload("blob GET 20 MiB", reads(lambda image: [image.layer], 20, Plan(4, 4))),
    Workload("blob GET 200 MiB", reads(lambda image: [image.layer], 200, Plan(2, 5))),
    Workload("pull of a 1 MiB image", reads(Image.pull, 1, Plan(4, 3, sequence=True))),
    Workload("push of 1 MiB images", pushes(MIB, 100, 4)),
    Workload("push of 10 MiB images", pushes(10 * MIB, 20, 4)),
    Workload("push of 10 MiB images in chunks", pushes(10 * MIB, 20, 4, 4 * MIB)),
    Workload("push of 100 MiB images", pushes(100 * MIB, 4, 2)),
)
