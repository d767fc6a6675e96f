"""What Bolt's second client asks of `/v2`, without a login: only what anybody may pull is shown."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from drift_bolt import packages
from drift_bolt.packages import GAMING, GamingMetadata, Package, _Wanted

from drift_core.api import Digest, Event, Records, Unavailable
from tests.faults.inspection import eventually
from tests.server import Server

from .client import Features
from .conftest import PASSWORDS
from .shelf import Shelf

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
    tool = {**about, GAMING: json.dumps(gaming(is_game=False, proton_compatible=False))}
    registry.push("open/games/editor", "v1", {**tool, "org.opencontainers.image.description": "A Level Editor"})
    registry.push("open/plain", "v1", {"org.opencontainers.image.description": "A Quick Arena"})
    registry.push("open/broken", "v1", {GAMING: "{}", "org.opencontainers.image.description": "A Quick Arena"})
    eventually(lambda: [one.name for one in registry.search(q="quick ARENA")] == ["open/games/arena"], "found")
    (package,) = registry.search(q="quick", gaming="true", proton="9.0", gpu="Nvidia", tier="Competitive")
    assert (package.version, package.manifest_digest) == ("v3", digest)
    assert [one.name for one in registry.search(q="level")] == ["open/games/editor"]
    assert registry.search(q="level", gaming="true") == registry.search(q="level", proton="9.0") == []
    assert package.size_bytes == len(b"layer")
    assert package.created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert package.security.signed is False
    for other in ({"proton": "9"}, {"proton": "8.0"}, {"gpu": "amd"}, {"tier": "Quality"}, {"q": "slow"}):
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


def pushed(annotations: dict[str, Any], **changes: Any) -> tuple[Shelf, Event]:
    """Returns a registry with an image of the tag ``v1``, and what a subscriber is told of it."""
    layer = {"mediaType": "application/octet-stream", "digest": Digest.of(b""), "size": 5}
    manifest = {"schemaVersion": 2, "mediaType": KIND, "layers": [layer], "annotations": annotations, **changes}
    content = json.dumps(manifest).encode()
    shelf, digest = Shelf(), Digest.of(content)
    shelf.manifests["games/one", digest] = (KIND, content)
    shelf.named["games/one"] = {"v1": digest}
    return shelf, Event(id=1, action="manifest.push", repository="games/one", digest=digest, tags=("v1",), at=7.0)


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({}, "An Arena"),
        ({"org.opencontainers.image.created": "0001-01-01T00:00:00+14:00"}, "An Arena"),
        ({"org.opencontainers.image.created": "9999-12-31T23:00:00-14:00"}, "An Arena"),
        ({"org.opencontainers.image.created": "yesterday"}, "An Arena"),
        ({"org.opencontainers.image.description": "An \0Arena"}, "An Arena"),
        ({"org.opencontainers.image.description": "a" * 20_000}, "a" * 10_000),
        ({GAMING: json.dumps(gaming(proton_versions=["9.0\0"]))}, "An Arena"),
        ({GAMING: "{}"}, None),
        ({GAMING: json.dumps(gaming()) + " " * packages.LARGEST_ANNOTATION}, None),
        ({GAMING: "[" * 20_000}, None),
    ],
)
async def test_no_annotation_stops_what_is_told_behind_it(
    records: Records, changes: dict[str, str], description: str | None
) -> None:
    """Whatever is raised here would be told again and again, and nothing else would be."""
    about = {GAMING: json.dumps(gaming()), "org.opencontainers.image.description": "An Arena", **changes}
    shelf, event = pushed(about)
    registry: Any = shelf
    await packages.on_event(registry, records, event)
    found = await records.read(lambda db: packages._latest(db, "games/one"))
    assert (None if found is None else found.description) == description
    if found is not None:
        assert found.size_bytes == 5


LAYER = {"mediaType": "application/octet-stream", "digest": Digest.of(b""), "size": 5}


MANIFESTS: list[tuple[dict[str, Any], tuple[str, ...] | None]] = [
    ({"layers": [{**LAYER, "platform": "x"}, {**LAYER, "platform": {"architecture": "arm64"}}]}, ("arm64",)),
    ({"layers": [{**LAYER, "platform": {"architecture": "a" * 100}}]}, ("a" * 64,)),
    (
        {"layers": [{**LAYER, "platform": {"architecture": f"{number:02}"}} for number in range(40)]},
        tuple(f"{number:02}" for number in range(32)),
    ),
    ({"layers": [{**LAYER, "size": -5}]}, ()),
    ({"layers": [{**LAYER, "size": []}]}, None),
    ({"layers": ["x"]}, None),
    ({"annotations": GAMING}, None),
]
"""What a manifest has, and the machines of its package, None for no package."""


async def test_no_manifest_stops_what_is_told_behind_it(records: Records) -> None:
    for changes, machines in MANIFESTS:
        shelf, event = pushed(**{"annotations": {GAMING: json.dumps(gaming())}, **changes})
        registry: Any = shelf
        await packages.on_event(registry, records, event)
        found = await records.read(lambda db: packages._latest(db, "games/one"))
        assert (None if found is None else found.optimization.cpu_architecture) == machines, changes


async def test_what_cannot_be_read_now_is_told_again(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, event = pushed({GAMING: json.dumps(gaming())})
    registry: Any = shelf

    async def manifest(*_: object) -> Any:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "manifest", manifest)
        with pytest.raises(Unavailable):
            await packages.on_event(registry, records, event)
    await packages.on_event(registry, records, event)
    shelf.manifests.clear()
    await packages.on_event(registry, records, event)
    assert await records.read(lambda db: packages._latest(db, "games/one")) is None, "what is gone is forgotten"


async def test_nothing_is_found_by_what_no_database_looks_for(records: Records) -> None:
    shelf, event = pushed({GAMING: json.dumps(gaming())})
    registry: Any = shelf
    await packages.on_event(registry, records, event)
    nothing = {"query": "", "games": False, "proton": None, "gpu": None, "tier": None}
    assert len(await records.read(lambda db: packages._search(db, _Wanted(**nothing)))) == 1
    for word in ("query", "proton", "gpu", "tier"):
        wanted = _Wanted(**{**nothing, word: "\0"})
        assert await records.read(partial(packages._search, wanted=wanted)) == []
    assert await records.read(partial(packages._latest, repository="games/one\0")) is None


async def test_sizes_that_no_database_counts(records: Records) -> None:
    huge = {"mediaType": "application/octet-stream", "digest": Digest.of(b""), "size": 1 << 62}
    shelf, event = pushed({GAMING: json.dumps(gaming())}, layers=[huge] * 5)
    registry: Any = shelf
    await packages.on_event(registry, records, event)
    found = await records.read(lambda db: packages._latest(db, "games/one"))
    assert found is not None
    assert found.size_bytes == (1 << 63) - 1


def test_what_somebody_may_not_pull_takes_no_place_of_what_he_may(
    registry: Registry,
) -> None:
    about = {GAMING: json.dumps(gaming()), "org.opencontainers.image.description": "Crowded Alley"}
    registry.push("open/alley", "v1", about)
    for number in range(packages.SHOWN):
        registry.push("closed/alley", f"v{number}", about)

    def found() -> list[str]:
        """By who may pull everything."""
        return [one["name"] for one in registry.client.get("/v2/search", params={"q": "crowded"}).json()]

    eventually(lambda: found() == ["closed/alley"] * packages.SHOWN, "nothing else found by who may pull everything")
    assert [one.name for one in registry.search(q="crowded")] == ["open/alley"]
