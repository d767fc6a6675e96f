"""Mirrors another Drift's profiles; one that lies, or leads elsewhere, is not believed."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest
import structlog
from drift_bolt import catalog, mirroring
from drift_bolt.config import BoltConfig
from drift_bolt.mirroring import Mirror
from drift_bolt.model import OptimizationProfile, ProfileUpload
from drift_bolt.profile_toml import to_toml
from drift_bolt.publishing import Publisher

from drift_core.api import Digest, Records, Secret, Unavailable
from drift_core.conformance import Trail, access_by, open_records
from tests.faults.inspection import eventually
from tests.server import Server

from . import samples
from .client import BoltError, DriftClient
from .shelf import Shelf

URL = "https://other.example"


def answered(status: int, content: bytes = b"", **options: Any) -> httpx.Response:
    """Returns an answer that nobody has read yet."""
    return httpx.Response(status, stream=httpx.ByteStream(content), **options)


class Other:
    """Another registry with the profile ``mirrored``; what it answers can be changed."""

    def __init__(self) -> None:
        self.profile = samples.profile("mirrored")
        self.version = "1.4.0"
        self.toml: bytes | None = None
        self.digest: str | None = None
        self.detail: dict[str, Any] = {}
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.answer is not None:
            return self.answer()
        toml = self.toml or to_toml(msgspec.convert(self.profile, OptimizationProfile))
        name, time = self.profile["name"], "2026-01-02T03:04:05Z"
        figures = {"downloads": 3, "rating": 4, "created_at": time, "updated_at": time}
        about = {**samples.metadata(), **figures, "author": "carol", "version": self.version}
        summary = {"name": name, "version": self.version, "author": "carol", "description": "x", **figures}
        summary |= {"tags": [], "compatible_games": []}
        part = {"media_type": "x", "size": len(toml), "digest": self.digest or Digest.of(toml)}
        manifest = {"schema_version": "2", "media_type": "x", "config": part, "layers": [part]}
        metadata = {**about, "rating_count": 1, "verified": True}
        detail = {"profile": self.profile, "metadata": metadata, "manifest": manifest, **self.detail}
        answers: dict[str, Any] = {
            "/v1/profiles": {"profiles": [summary], "total": 1, "page": 1, "per_page": 100},
            f"/v1/profiles/{name}": detail,
        }
        if request.url.path == f"/v1/profiles/{name}/download":
            return answered(200, toml)
        return answered(200, json.dumps(answers[request.url.path]).encode())


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Other:
    other = Other()
    real = httpx.AsyncClient
    monkeypatch.setattr(
        mirroring.httpx, "AsyncClient", lambda **options: real(transport=httpx.MockTransport(other), **options)
    )
    return other


@pytest.fixture
async def records() -> AsyncIterator[Records]:
    """One database is enough: what differs is in other tests."""
    async with open_records("bolt", "drift_bolt.migrations") as records:
        yield records


@pytest.fixture
def publisher(records: Records) -> Publisher:
    return Publisher(records, access_by(), Trail())


@pytest.fixture
def mirror(records: Records, publisher: Publisher) -> Mirror:
    config = BoltConfig(auto_update_profiles=True, registry_url=URL, registry_token=Secret("the token"))
    return Mirror(config, records, publisher, structlog.get_logger())


async def versions(records: Records) -> list[tuple[str, str]]:
    def read(db: Any) -> list[tuple[str, str]]:
        entry = catalog.find(db, "profile", "mirrored")
        return [(one.version, one.author) for one in catalog.all_versions(db, entry)]

    return await records.read(read)


async def test_what_is_new_is_fetched_once(records: Records, other: Other, mirror: Mirror) -> None:
    shelf: Any = Shelf()
    assert await mirror.run(shelf) == 1
    assert await mirror.run(shelf) == 0
    assert await versions(records) == [("1.4.0", "carol")]
    other.version, other.profile = "1.5.0", samples.profile("mirrored", priority=2)
    assert await mirror.run(shelf) == 1
    assert await versions(records) == [("1.5.0", "carol"), ("1.4.0", "carol")]
    assert set(shelf.named["bolt/profiles/mirrored"]) == {"1.4.0", "1.5.0"}
    assert {str(request.url.host) for request in other.asked} == {"other.example"}
    assert {request.headers["authorization"] for request in other.asked} == {"Bearer the token"}


@pytest.mark.usefixtures("other")
async def test_what_was_published_here_stays(records: Records, mirror: Mirror, publisher: Publisher) -> None:
    shelf: Any = Shelf()
    sent = {"profile": samples.profile("mirrored", priority=9), "metadata": samples.metadata()}
    await publisher.profile(shelf, msgspec.convert(sent, ProfileUpload), "ann")
    assert await mirror.run(shelf) == 0
    assert await versions(records) == [("1.0.0", "ann")]


@pytest.mark.parametrize(
    "lie",
    [
        {"digest": "sha256:" + "0" * 64},
        {"toml": to_toml(msgspec.convert(samples.profile("mirrored", priority=1), OptimizationProfile))},
        {"toml": b"name = "},
        {"version": "../1"},
        {"version": ""},
        {"profile": samples.profile("Not a name")},
        {"profile": samples.profile("search")},
        {"profile": samples.profile("mirrored", priority=1001)},
        {"detail": {"manifest": {"schema_version": "2", "media_type": "x", "config": None, "layers": []}}},
        {"detail": {"profile": samples.profile("another")}},
    ],
)
async def test_lies_are_left_out(other: Other, mirror: Mirror, lie: dict[str, Any]) -> None:
    for name, value in lie.items():
        setattr(other, name, value)
    shelf: Any = Shelf()
    assert await mirror.run(shelf) == 0
    assert shelf.named == {}


@pytest.mark.parametrize("status", [301, 307])
async def test_redirects_are_not_followed(other: Other, mirror: Mirror, status: int) -> None:
    target = {"location": "http://169.254.169.254/latest/meta-data"}
    other.answer = lambda: answered(status, headers=target)
    with pytest.raises(Exception, match=str(status)):
        await mirror.run(Shelf())  # type: ignore[arg-type]
    assert len(other.asked) == 1


async def test_one_that_does_not_answer(other: Other, mirror: Mirror) -> None:
    other.answer = lambda: answered(503)
    with pytest.raises(Unavailable):
        await mirror.run(Shelf())  # type: ignore[arg-type]

    def refuse() -> httpx.Response:
        raise httpx.ConnectError("nobody listens")

    other.answer = refuse
    with pytest.raises(Unavailable, match="cannot be reached"):
        await mirror.run(Shelf())  # type: ignore[arg-type]


async def test_an_answer_that_does_not_end(other: Other, mirror: Mirror) -> None:
    other.answer = lambda: answered(200, b" " * (mirroring.LARGEST + 1))
    with pytest.raises(Exception, match="too long"):
        await mirror.run(Shelf())  # type: ignore[arg-type]


def test_a_server_mirrors_another(server: Server, ann: DriftClient, tmp_path: Any) -> None:
    ann.upload_profile(samples.profile("of-the-other"), samples.metadata())
    token = ann.ask("GET", "/v1/auth/whoami").request.headers["authorization"].removeprefix("Bearer ")
    settings = ("bolt.enabled=true", "bolt.auto_update_profiles=true", f"bolt.registry_url={server.url}")
    settings += ("bolt.default_profiles=false", f"bolt.registry_token={token}")
    with Server(tmp_path, *settings, workers=1) as second, DriftClient(second.url) as client:

        def there() -> bool:
            try:
                return client.download_profile("of-the-other") == ann.download_profile("of-the-other")
            except BoltError:
                return False

        eventually(there, "the profile is mirrored")
        detail = client.get_profile("of-the-other")
        assert (detail.metadata.author, detail.metadata.version) == ("ann", "1.0.0")
