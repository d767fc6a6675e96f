"""A server whose images are optimized as soon as they are pushed, and what tests ask of it."""

import gzip
import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import zstandard

from tests.faults.inspection import eventually
from tests.server import Server
from tests.tools import tool

from .corpus import Image, write_layout

AT_ONCE = (
    "optimization.enabled=true",
    'optimization.optimization_schedule="immediate"',
    "optimization.min_layer_size_mb=0",
    "optimization.min_gain=0",
    "registry.immutable_tags=[]",
)
ACCEPT = ", ".join(f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index"))


class Optimized:
    """A registry and its client; a ``with`` block serves it."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.server = Server(folder / "server", *AT_ONCE, *settings)

    def __enter__(self) -> Self:
        self.server.start(60)
        self.client = httpx.Client(base_url=self.server.url, timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.__exit__()

    def push(self, repository: str, tag: str, image: Image) -> str:
        """Pushes an image as it is by skopeo, and returns its digest."""
        layout = self.folder / "layouts" / f"{repository.replace('/', '-')}-{tag}"
        write_layout(layout, [(tag, image)])
        target = f"docker://{self.server.host}/{repository}:{tag}"
        command = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:{tag}", target]
        run("skopeo", "--insecure-policy", *command)
        return self.digest(repository, tag)

    def digest(self, repository: str, tag: str) -> str:
        answer = self.client.head(f"/v2/{repository}/manifests/{tag}", headers={"accept": ACCEPT})
        answer.raise_for_status()
        return str(answer.headers["docker-content-digest"])

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        answer = self.client.get(f"/v2/{repository}/manifests/{reference}", headers={"accept": ACCEPT})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def blob(self, repository: str, digest: str) -> bytes:
        answer = self.client.get(f"/v2/{repository}/blobs/{digest}")
        answer.raise_for_status()
        return answer.content

    def tags(self, repository: str) -> list[str]:
        found: list[str] = self.client.get(f"/v2/{repository}/tags/list").json()["tags"]
        return found

    def tars(self, repository: str, manifest: dict[str, Any]) -> list[bytes]:
        """Returns what the layers of an image unpack to."""
        return [unpacked(self.blob(repository, layer["digest"])) for layer in manifest["layers"]]

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/v2/{repository}/referrers/{digest}").json()["manifests"]
        return found

    def jobs(self, **query: str) -> list[dict[str, Any]]:
        answer = self.client.get("/admin/optimize/status", params={"limit": "500", **query})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["jobs"]
        return found

    def ended(self, repository: str, digest: str) -> dict[str, Any]:
        """Returns the job of an image once it has ended."""
        found: list[dict[str, Any]] = []

        def over() -> bool:
            own = [job for job in self.jobs() if (job["repository"], job["digest"]) == (repository, digest)]
            found[:] = [job for job in own if job["state"] not in ("pending", "optimizing")]
            return bool(found)

        eventually(over, f"{repository}@{digest} worked on")
        return found[0]


def run(program: str, *arguments: str | Path, folder: Path | None = None) -> str:
    """Runs a client, which has to succeed."""
    command = [tool(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unpacked(content: bytes) -> bytes:
    """Returns the tar in a layer, whatever packs it."""
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    if content[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True).read()
    return content


def diff_ids(config: bytes) -> Sequence[str]:
    """Returns the diff_ids of a configuration."""
    found: list[str] = json.loads(config)["rootfs"]["diff_ids"]
    return found
