"""Every call of Bolt's client, against a real server with real logins."""

import json
import subprocess
import tomllib
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.faults.inspection import eventually
from tests.server import Server
from tests.tools import tool

from . import samples
from .client import PROFILE_TYPE, BoltError, DriftClient
from .conftest import PASSWORDS


def refusal(error: pytest.ExceptionInfo[BoltError]) -> tuple[int, str]:
    """Returns status and code of an answer that is an error of the API."""
    body = error.value.body
    assert body is not None, "Bolt wants error and message"
    return error.value.status, body.error


def test_a_profile_comes_back_as_bolt_reads_it(server: Server, ann: DriftClient) -> None:
    sent = samples.profile("round-trip")
    answer = ann.upload_profile(sent, samples.metadata())
    assert answer.json() == {"message": "published round-trip 1.0.0", "profile": "round-trip", "version": "1.0.0"}
    toml = ann.download_profile("round-trip")
    assert tomllib.loads(toml.decode()) == {
        "name": "round-trip",
        "description": "own example",
        "priority": 70,
        "cpu_optimizations": {"governor": "Schedutil"},
        "gpu_optimizations": {"amd": {"power_limit": 90}},
        "memory_optimizations": {},
        "network_optimizations": {"priority": "Gaming"},
        "storage_optimizations": {"io_scheduler": "Mq_deadline"},
        "conditions": [{"GpuVendor": "Amd"}, {"MemoryGb": 16}],
    }
    detail = ann.get_profile("round-trip")
    assert detail.profile == sent
    assert (detail.metadata.author, detail.metadata.version) == ("ann", "1.0.0")
    assert (detail.metadata.author_email, detail.metadata.license) == ("ann@example.org", None)
    assert detail.metadata.system_requirements.required_gpu_vendor == "amd"
    (layer,) = detail.manifest.layers
    assert (layer.media_type, layer.size) == (PROFILE_TYPE, len(toml))
    assert layer.digest == f"sha256:{sha256(toml).hexdigest()}"
    assert detail.manifest.schema_version == "2"
    with DriftClient(f"{server.url}/") as slash:
        slash.authenticate("ann", PASSWORDS["ann"])
        assert slash.download_profile("round-trip") == toml


def test_oras_pulls_a_profile(server: Server, ann: DriftClient, tmp_path: Path) -> None:
    ann.upload_profile(samples.profile("by-oras"), samples.metadata())
    login = ("--plain-http", "--username", "ann", "--password", PASSWORDS["ann"])
    reference = f"{server.host}/bolt/profiles/by-oras:1.0.0"
    command = [tool("oras"), "pull", *login, "--output", str(tmp_path), reference]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "by-oras.toml").read_bytes() == ann.download_profile("by-oras")


def test_each_upload_is_the_next_version(ann: DriftClient) -> None:
    for number in range(3):
        ann.upload_profile(samples.profile("versions", priority=number), samples.metadata(tags=[f"v{number}"]))
    assert ann.get_profile("versions").metadata.version == "1.2.0"
    assert ann.get_profile("versions").metadata.tags == ["v2"]
    assert tomllib.loads(ann.download_profile("versions").decode())["priority"] == 2
    assert tomllib.loads(ann.download_profile("versions", "?version=1.0.0").decode())["priority"] == 0
    found = [one["version"] for one in ann.ask("GET", "/v1/profiles/versions/versions").json()["versions"]]
    assert found == ["1.2.0", "1.1.0", "1.0.0"]
    with pytest.raises(BoltError) as error:
        ann.download_profile("versions", "?version=1.3.0")
    assert refusal(error) == (404, "RESOURCE_NOT_FOUND")


def test_a_published_version_stays_what_it_is(server: Server, ann: DriftClient) -> None:
    """By no way, also not by a push of somebody who may push everything."""
    ann.upload_profile(samples.profile("immutable"), samples.metadata())
    reference = f"{server.url}/v2/bolt/profiles/immutable/manifests/1.0.0"
    root = ("root", PASSWORDS["root"])
    manifest = httpx.get(reference, auth=root, headers={"accept": "*/*"})
    changed = {**manifest.json(), "annotations": {"changed": "yes"}}
    kind = {"content-type": manifest.headers["content-type"]}
    answer = httpx.put(reference, auth=root, content=json.dumps(changed), headers=kind)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
    assert httpx.put(reference, auth=root, content=manifest.content, headers=kind).status_code == 201
    signature = httpx.put(f"{reference}-signature", auth=root, content=json.dumps(changed), headers=kind)
    assert signature.status_code == 201, "what is no version is nobody's business"


def test_a_version_that_is_deleted_as_an_image_is_gone(server: Server, ann: DriftClient) -> None:
    for _ in range(2):
        ann.upload_profile(samples.profile("by-hand"), samples.metadata())
    root = ("root", PASSWORDS["root"])
    url = f"{server.url}/v2/bolt/profiles/by-hand/manifests/1.1.0"
    assert httpx.delete(url, auth=root).status_code == 202
    eventually(lambda: ann.get_profile("by-hand").metadata.version == "1.0.0", "the older version is the latest")
    ann.upload_profile(samples.profile("by-hand"), samples.metadata())
    assert ann.get_profile("by-hand").metadata.version == "1.2.0"


def test_a_name_belongs_to_who_published_it_first(ann: DriftClient, bob: DriftClient, server: Server) -> None:
    ann.upload_profile(samples.profile("owned"), samples.metadata())
    with pytest.raises(BoltError) as error:
        bob.upload_profile(samples.profile("owned"), samples.metadata())
    assert refusal(error) == (403, "AUTHORIZATION_FAILED")
    with DriftClient(server.url) as root:
        root.authenticate("root", PASSWORDS["root"])
        root.upload_profile(samples.profile("owned", priority=1), samples.metadata())
        assert root.get_profile("owned").metadata.author == "root"
        (listed,) = [one for one in root.list_profiles(per_page=100).profiles if one.name == "owned"]
        assert (listed.author, listed.version) == ("ann", "1.1.0")


def test_a_deleted_profile_is_gone(server: Server, ann: DriftClient) -> None:
    ann.upload_profile(samples.profile("deleted"), samples.metadata(tags=["deleted-tag"]))
    before = ann.get_metrics()
    with DriftClient(server.url) as root:
        root.authenticate("root", PASSWORDS["root"])
        root.delete_profile("deleted")
    for call in (ann.get_profile, ann.download_profile):
        with pytest.raises(BoltError) as error:
            call("deleted")
        assert refusal(error) == (404, "RESOURCE_NOT_FOUND")
    assert ann.search_profiles(tags=["deleted-tag"]).results == []
    after = ann.get_metrics()
    assert after.total_profiles == before.total_profiles - 1
    assert after.storage_usage_bytes < before.storage_usage_bytes
    tags = httpx.get(f"{server.url}/v2/bolt/profiles/deleted/tags/list", auth=("root", PASSWORDS["root"]))
    assert not tags.json().get("tags")


def test_searches_are_open_and_nothing_else_is(ann: DriftClient, stranger: DriftClient) -> None:
    ann.upload_profile(samples.profile("open-search"), samples.metadata())
    assert [one.name for one in stranger.search_profiles(query="OPEN-sea").results] == ["open-search"]
    assert stranger.search_plugins(query="nothing is called like this").total == 0
    for call in (
        stranger.list_profiles,
        lambda: stranger.get_profile("open-search"),
        lambda: stranger.download_profile("open-search"),
        stranger.list_plugins,
        stranger.get_metrics,
    ):
        with pytest.raises(BoltError) as error:
            call()
        assert refusal(error) == (401, "AUTHENTICATION_FAILED")


def test_what_the_search_finds(ann: DriftClient) -> None:
    requirements = {"supported_os": ["linux"], "required_gpu_vendor": "nvidia"}
    for number, (name, tags, games) in enumerate(
        [
            ("find-one", ["shooter", "fast"], ["Quick Arena 3"]),
            ("find-two", ["Strategy"], ["Slow Empire"]),
            ("find-three", ["shooting-range"], ["Slow Arena"]),
        ]
    ):
        about = samples.metadata(tags=tags, compatible_games=games)
        if number == 2:
            about["system_requirements"] = requirements
        ann.upload_profile(samples.profile(name, description=f"Ünique searching {number} 100%"), about)

    def names(**wanted: object) -> list[str]:
        found = ann.search_profiles(query=wanted.pop("query", "nique SEARCHING"), **wanted)
        assert (found.total, found.total_pages) == (len(found.results), 1 if found.results else 0)
        return [one.name for one in found.results]

    by_age = {"sort_by": "created_at", "sort_order": "asc"}
    assert names(**by_age) == ["find-one", "find-two", "find-three"]
    assert names(sort_by="created_at") == ["find-three", "find-two", "find-one"]
    assert names(tags=["shoot"], **by_age) == ["find-one", "find-three"]
    assert names(tags=["fast", "strategy"], **by_age) == ["find-one", "find-two"]
    assert names(game="arena", **by_age) == ["find-one", "find-three"]
    assert names(gpu_vendor="NVID") == ["find-three"]
    assert names(author="bob") == []
    assert names(author="ann", game="slow", tags=["range"]) == ["find-three"]
    assert names(query="ünique searching 1 100%") == ["find-two"]
    assert names(query="100_") == []
    assert names(query='"') == []
    page = ann.search_profiles(query="ünique searching", page=2, per_page=2, **by_age)
    assert ([one.name for one in page.results], page.total, page.total_pages) == (["find-three"], 3, 2)
    short = ann.search_profiles(query="q", per_page=100)
    assert {"find-one", "find-two", "find-three"} <= {one.name for one in short.results}


def test_pages_of_a_list(ann: DriftClient) -> None:
    for number in range(3):
        ann.upload_profile(samples.profile(f"page-{number}"), samples.metadata())
    every = ann.list_profiles()
    assert (every.page, every.per_page) == (1, 20)
    first, second = ann.list_profiles(1, 2), ann.list_profiles(2, 2)
    assert [one.name for one in first.profiles + second.profiles] == [one.name for one in every.profiles[:4]]
    assert first.total == every.total == len(every.profiles)
    assert ann.list_profiles(page=1000).profiles == []
    assert ann.list_profiles(per_page=4_000_000_000).per_page == 100
    with pytest.raises(BoltError) as error:
        ann.ask("GET", "/v1/profiles?page=-1")
    assert refusal(error) == (400, "INVALID_REQUEST")


def test_ratings_and_downloads_are_counted(ann: DriftClient, bob: DriftClient) -> None:
    ann.upload_profile(samples.profile("counted"), samples.metadata())
    before = ann.get_metrics()
    for _ in range(3):
        bob.download_profile("counted")
    assert ann.get_profile("counted").metadata.downloads == 3
    for client, rating in ((ann, 5), (bob, 1), (bob, 4.0)):
        client.ask("POST", "/v1/profiles/counted/ratings", json={"rating": rating, "comment": None})
    metadata = ann.get_profile("counted").metadata
    assert (metadata.rating, metadata.rating_count) == (4.5, 2)
    wrong = [{"rating": rating} for rating in (0.9, 5.1, "5", None)]
    for body in (*wrong, {"rating": 5, "comment": "a\0b"}):
        with pytest.raises(BoltError) as error:
            ann.ask("POST", "/v1/profiles/counted/ratings", json=body)
        assert refusal(error) == (400, "INVALID_REQUEST")

    def counted() -> bool:
        now = ann.get_metrics()
        day = sum(now.daily_downloads.values()) - sum(before.daily_downloads.values())
        return day == now.total_downloads - before.total_downloads == 3

    eventually(counted, "the downloads added up")
    metrics = ann.get_metrics()
    assert len(metrics.daily_downloads) == 30
    assert metrics.popular_profiles[0].name == "counted"
    assert metrics.popular_profiles[0].downloads == 3
    of_profiles = ann.ask("GET", "/v1/metrics/profiles").json()
    assert of_profiles["total"] == metrics.total_profiles
    assert of_profiles["downloads_24h"] == of_profiles["downloads_7d"] >= 3
    assert of_profiles["by_category"]["example"] >= 1
    assert ann.ask("GET", "/v1/metrics/plugins").json().keys() == {"total", "by_type", "downloads_24h", "downloads_7d"}


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"name": ""}, {}),
        ({"name": "a" * 65}, {}),
        ({"name": "search"}, {}),
        ({"name": "upload"}, {}),
        ({"name": "a/b"}, {}),
        ({"name": "Upper"}, {}),
        ({"description": ""}, {}),
        ({"priority": 1001}, {}),
        ({"priority": -1}, {}),
        ({"priority": 5.0}, {}),
        ({"priority": None}, {}),
        ({"cpu_optimizations": {"priority": 20}}, {}),
        ({"cpu_optimizations": {"priority": -21}}, {}),
        ({"cpu_optimizations": {"governor": "performance"}}, {}),
        ({"cpu_optimizations": None}, {}),
        ({"gpu_optimizations": {"nvidia": {"power_limit": 151}}}, {}),
        ({"gpu_optimizations": {"nvidia": {"memory_clock_offset": 2001}}}, {}),
        ({"gpu_optimizations": {"nvidia": {"core_clock_offset": -1001}}}, {}),
        ({"conditions": [{"GpuVendor": "nvidia"}]}, {}),
        ({"conditions": [{"MemoryGb": 1, "CpuCores": 1}]}, {}),
        ({"conditions": [{}]}, {}),
        ({}, {"tags": None}),
        ({}, {"author_email": 1}),
        ({}, {"system_requirements": {}}),
        ({}, {"system_requirements": {"supported_os": None}}),
        ({}, {"tags": ["a"] * 101}),
    ],
)
def test_what_is_no_profile(ann: DriftClient, changes: dict[str, object], about: dict[str, object]) -> None:
    with pytest.raises(BoltError) as error:
        ann.upload_profile(samples.profile("refused", **changes), samples.metadata(**about))
    assert refusal(error) == (400, "INVALID_REQUEST")


def test_limits_are_themselves_allowed(ann: DriftClient) -> None:
    nvidia = {"power_limit": 150, "memory_clock_offset": -2000, "core_clock_offset": 1000}
    edges = {"nvidia": nvidia, "amd": {"power_limit": 4_294_967_295}}
    name = "a" * 64
    changes = {"priority": 1000, "cpu_optimizations": {"priority": -20}, "gpu_optimizations": edges, "unknown": [1]}
    ann.upload_profile(samples.profile(name, **changes), samples.metadata(unknown=1))
    assert ann.get_profile(name).profile["cpu_optimizations"]["priority"] == -20


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b"{}", b'"' + b"a" * (2 << 20)])
@pytest.mark.parametrize("path", ["profiles/search", "profiles/upload", "plugins/upload", "profiles/x/ratings"])
def test_bodies_that_do_not_fit(ann: DriftClient, path: str, body: bytes) -> None:
    if (path, body) == ("profiles/search", b"{}"):
        return
    with pytest.raises(BoltError) as error:
        ann.ask("POST", f"/v1/{path}", content=body)
    assert refusal(error)[0] in (400, 404, 413)


def test_default_profiles_are_there_once(ann: DriftClient) -> None:
    names = {"steam-gaming", "competitive-gaming", "streaming", "ai-ml", "development"}

    def seeded() -> bool:
        return names <= {one.name for one in ann.search_profiles(author="drift").results}

    eventually(seeded, "the default profiles")
    steam = ann.get_profile("steam-gaming")
    assert (steam.metadata.author, steam.metadata.version) == ("drift", "1.0.0")
    assert steam.profile["gpu_optimizations"]["nvidia"]["memory_clock_offset"] == 500
    assert steam.profile["conditions"] == [{"GpuVendor": "Nvidia"}]
    toml = tomllib.loads(ann.download_profile("competitive-gaming").decode())
    assert toml["storage_optimizations"] == {"io_scheduler": "None", "read_ahead": 0}


def test_health_and_version_are_json(stranger: DriftClient) -> None:
    assert stranger.health_check() is not None
    assert stranger.get_version() is not None
