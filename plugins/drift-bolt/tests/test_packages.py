"""What Bolt's second client asks of `/v2`, without a login: only what anybody may pull is shown."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from drift_bolt.packages import GAMING, GamingMetadata, Package

from tests.faults.inspection import eventually
from tests.server import Server

from .client import Features
from .conftest import PASSWORDS

KIND = "application/vnd.oci.image.manifest.v1+json"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "", "size": 2}


def gaming(**changes: Any) -> dict[str, Any]:
    return {
        "is_game": True,
        "proton_compatible": True,
        "proton_versions": ["9.0"],
        "gpu_requirements": {
            "nvidia": {"min_vram_mb": 4096, "features": ["dlss"]},
            "amd": None,
            "vulkan_required": True,
        },
        "steam_app_id": 730,
        "performance_tier": "Competitive",
        "anti_cheat": {"battleye": False, "eac": False, "vac": True, "denuvo": False, "notes": []},
        **changes,
    }


class Registry:
    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.client = httpx.Client(base_url=server.url, auth=("root", PASSWORDS["root"]), timeout=30)

    def push(self, repository: str, tag: str, annotations: dict[str, str]) -> str:
        blob = {}
        for content in (b"{}", b"layer"):
            begun = self.client.post(f"/v2/{repository}/blobs/uploads/")
            from drift_core.api import Digest  # noqa: PLC0415

            digest = Digest.of(content)
            mark = "&" if "?" in begun.headers["location"] else "?"
            self.client.put(f"{begun.headers['location']}{mark}digest={digest}", content=content).raise_for_status()
            kind = "application/vnd.oci.image.config.v1+json" if content == b"{}" else "application/octet-stream"
            blob[content] = {"mediaType": kind, "digest": digest, "size": len(content)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": KIND,
            "config": blob[b"{}"],
            "layers": [blob[b"layer"]],
            "annotations": annotations,
        }
        answer = self.client.put(
            f"/v2/{repository}/manifests/{tag}", content=json.dumps(manifest), headers={"content-type": KIND}
        )
        answer.raise_for_status()
        return answer.headers["docker-content-digest"]

    def search(self, **query: str) -> list[Package]:
        answer = httpx.get(f"{self.url}/v2/search", params=query, headers={"user-agent": "Bolt/1.0"})
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=list[Package])

    def compatibility(self, name: str) -> httpx.Response:
        return httpx.get(f"{self.url}/v2/gaming/{name}/compatibility")


@pytest.fixture(scope="module")
def registry(server: Server) -> Iterator[Registry]:
    registry = Registry(server)
    yield registry
    registry.client.close()


def test_features(server: Server) -> None:
    answer = httpx.get(f"{server.url}/v2/features")
    assert msgspec.json.decode(answer.content, type=Features).gaming_optimization is True


def test_images_that_say_how_they_get_on_with_games(registry: Registry) -> None:
    about = {
        GAMING: json.dumps(gaming()),
        "org.opencontainers.image.description": "A Quick Arena",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
    }
    digest = registry.push("open/games/arena", "v3", about)
    hidden = {**about, GAMING: json.dumps(gaming(performance_tier="Quality"))}
    registry.push("closed/arena", "v1", hidden)
    registry.push("open/plain", "v1", {"org.opencontainers.image.description": "A Quick Arena"})
    registry.push("open/broken", "v1", {GAMING: "{}", "org.opencontainers.image.description": "A Quick Arena"})
    eventually(lambda: [one.name for one in registry.search(q="quick ARENA")] == ["open/games/arena"], "found")
    (package,) = registry.search(q="quick", gaming="true", proton="true", gpu="Nvidia", tier="Competitive")
    assert (package.version, package.manifest_digest) == ("v3", digest)
    assert package.size_bytes == len(b"layer")
    assert package.created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert package.security.signed is False
    for other in ({"proton": "false"}, {"gpu": "amd"}, {"tier": "Quality"}, {"q": "slow"}):
        assert registry.search(**{"q": "quick", **other}) == []
    answer = registry.compatibility("open/games/arena")
    assert msgspec.json.decode(answer.content, type=GamingMetadata).steam_app_id == 730
    for name in ("closed/arena", "open/plain", "none", "a/b/c/d", "a/b/c/d/e"):
        assert registry.compatibility(name).status_code == 404
    as_root = registry.client.get("/v2/gaming/closed/arena/compatibility")
    assert as_root.status_code == 200
    registry.push("open/games/arena", "sha256-" + digest.removeprefix("sha256:") + ".sig", {})
    assert registry.search(q="quick")[0].security.signed is True
    registry.client.delete("/v2/open/games/arena/manifests/v3").raise_for_status()
    eventually(lambda: registry.search(q="quick") == [], "a tag that is gone is not found")
