"""`drift gc`, `/admin/gc` and the deletions of clients, as an operator sees them on a server that serves."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.inspection import PATIENCE, eventually, fsck
from tests.oci.client import Registry, refused
from tests.oci.content import Blob, Document, image, index, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

PAGE = (ROOT / "docs/how-to/collect.md").read_text()

SETTINGS = (
    "garbage_collector.enabled=true",
    "garbage_collector.grace_period_hours=0",
    "garbage_collector.max_share=1.0",
    "registry.min_age_days=0",
    "registry.immutable_tags=[]",
    'registry.no_overwrite_tags=["stays-*"]',
    'registry.no_delete_tags=["lives-*"]',
    "quota.enabled=true",
    "audit.enabled=true",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("collect"), *SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def registry(server: Server) -> Iterator[Registry]:
    with Registry(server.url) as registry:
        yield registry


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


def drift(server: Server, *words: str, code: int = 0) -> str:
    command = [str(DRIFT), *words, *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def collected(server: Server, *options: str) -> list[dict[str, Any]]:
    """Runs the collector after all times of grace are over, and returns what it removed."""
    age(server, "UPDATE unreached SET since = since - 1e6")
    removals: list[dict[str, Any]] = json.loads(drift(server, "gc", "run", "--json", *options))["removals"]
    return removals


def age(server: Server, change: str) -> None:
    with sqlite3.connect(server.folder / "data/drift.db", timeout=PATIENCE) as database:
        database.execute(change)
    database.close()


def push_image(registry: Registry, repository: str, tag: str | None, *layers: Blob) -> Document:
    config = registry.push_blob(repository, unique_blob())
    for layer in layers:
        registry.push_blob(repository, layer)
    return registry.push(repository, image(config, *layers), tag)


def is_whole(registry: Registry, repository: str, manifest: Document) -> bool:
    paths = [f"/v2/{repository}/manifests/{manifest.digest}"]
    paths += [f"/v2/{repository}/blobs/{blob['digest']}" for blob in parts_of(manifest)]
    return all(registry.get(path).status_code == 200 for path in paths)


def parts_of(manifest: Document) -> list[dict[str, Any]]:
    fields = json.loads(manifest.content)
    return [fields["config"], *fields["layers"]]


def test_an_image_removed_by_mistake_comes_back_with_one_command(
    server: Server, registry: Registry, repository: str
) -> None:
    shared = unique_blob(5000)
    kept = push_image(registry, repository, "kept", shared)
    lost = push_image(registry, repository, "lost", shared, unique_blob(7000))
    signature = registry.push(repository, image(registry.push_blob(repository, unique_blob()), subject=lost))
    by_tag = push_image(registry, repository, f"{lost.digest.replace(':', '-')}.sig")
    assert registry.delete(f"/v2/{repository}/manifests/lost").status_code == 202
    removed = {one["digest"] for one in collected(server)}
    assert removed >= {lost.digest, signature.digest, by_tag.digest, *(part["digest"] for part in parts_of(lost)[::2])}
    assert shared.digest not in removed
    assert registry.get(f"/v2/{repository}/manifests/{lost.digest}").status_code == 404
    assert registry.tags(repository) == ["kept"]
    back = json.loads(drift(server, "gc", "restore", lost.digest, "--json"))
    assert not [one for one in back if one["problem"]], back
    assert is_whole(registry, repository, lost)
    assert is_whole(registry, repository, kept)
    assert is_whole(registry, repository, by_tag)
    assert registry.tags(repository) == ["kept", "lost", f"{lost.digest.replace(':', '-')}.sig"]
    assert [one["digest"] for one in registry.referrers(repository, lost.digest)] == [signature.digest]
    # What has come back is not garbage: a tag reaches it.
    assert not {one["digest"] for one in collected(server)} & removed
    assert fsck(server).clean


def test_a_manifest_that_a_client_deleted_comes_back(server: Server, registry: Registry, repository: str) -> None:
    child = push_image(registry, repository, None, unique_blob())
    whole = registry.push(repository, index(child), "v1")
    assert registry.delete(f"/v2/{repository}/manifests/{whole.digest}").status_code == 202
    registry.push(repository, child, "v1")
    back = json.loads(drift(server, "gc", "restore", "--since", "1h", "--repository", repository, "--json", code=1))
    assert [one["problem"] for one in back if one["kind"] == "tag"] == [f"it names {child.digest} now"]
    assert registry.get(f"/v2/{repository}/manifests/{whole.digest}").content == whole.content
    assert is_whole(registry, repository, child)


def test_what_is_purged_does_not_come_back(server: Server, registry: Registry, repository: str) -> None:
    lost = push_image(registry, repository, "lost", unique_blob(3000))
    assert registry.delete(f"/v2/{repository}/manifests/lost").status_code == 202
    collected(server)
    layer = parts_of(lost)[1]["digest"]
    stored = server.folder / "data/blobs/sha256" / layer[7:9] / layer[7:]
    drift(server, "gc", "purge", "--all")
    assert stored.exists(), "a client may have been told of it a moment ago"
    age(server, "UPDATE trash SET removed_at = removed_at - 1e6")
    drift(server, "gc", "purge")
    assert not stored.exists()
    assert fsck(server).clean
    drift(server, "gc", "restore", lost.digest, code=1)
    # And nothing hinders a push of it.
    assert registry.head(f"/v2/{repository}/blobs/{layer}").status_code == 404


@pytest.mark.parametrize("told", ["head", "mount", "upload", "manifest head"])
def test_what_a_client_was_told_of_stays(server: Server, registry: Registry, repository: str, told: str) -> None:
    blob = registry.push_blob(repository, unique_blob())
    manifest = push_image(registry, repository, None)
    age(server, "UPDATE unreached SET since = since - 1e6")
    if told == "head":
        assert registry.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 200
    elif told == "mount":
        assert registry.post(f"/v2/{repository}/blobs/uploads/", {"mount": blob.digest, "from": repository}).is_success
    elif told == "upload":
        registry.push_blob(repository, blob)
    else:
        assert registry.head(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 200
    removed = {one["digest"] for one in json.loads(drift(server, "gc", "run", "--json"))["removals"]}
    assert (blob.digest in removed) is (told == "manifest head")
    assert (manifest.digest in removed) is (told != "manifest head")
    if told == "manifest head":
        assert is_whole(registry, repository, manifest)


def test_a_dry_run_removes_nothing_and_says_what_would_go(server: Server, registry: Registry, repository: str) -> None:
    blob = registry.push_blob(repository, unique_blob(1234))
    would = collected(server, "--dry-run")
    (one,) = [removal for removal in would if removal["digest"] == blob.digest]
    assert one == {
        "digest": blob.digest,
        "kind": "blob",
        "reason": "no manifest needs it",
        "repository": repository,
        "size": 1234,
    }
    answer = registry.post("/admin/gc", None, b'{"dry_run": true}')
    assert answer.json()["success"], answer.text
    assert answer.json()["metrics"]["blobs_deleted"] == sum(one["kind"] == "blob" for one in would)
    assert answer.json()["metrics"]["bytes_freed"] == 0
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_a_run_by_request(server: Server, registry: Registry, repository: str) -> None:
    registry.push_blob(repository, unique_blob(4321))
    collected(server)
    registry.push_blob(repository, unique_blob(4321))
    age(server, "UPDATE unreached SET since = since - 1e6")
    found = registry.post("/admin/gc").json()
    assert found["success"]
    assert found["metrics"] | {"run_duration_seconds": 0} == {
        "orphaned_blobs_found": 1,
        "orphaned_manifests_found": 0,
        "blobs_deleted": 1,
        "manifests_deleted": 0,
        "bytes_freed": 4321,
        "run_duration_seconds": 0,
    }
    status = registry.get("/admin/gc/status").json()
    assert status["status"] == "configured"
    assert status["grace_period_hours"] == 0
    assert [(run["began_by"], run["state"], run["blobs"]) for run in status["runs"][:2]] == [
        ("request", "done", 1),
        ("command", "done", status["runs"][1]["blobs"]),
    ]
    refused(registry.post("/admin/gc", None, b'{"dryrun": true}'), 400, "UNSUPPORTED")
    # The first run that the server began by itself was a dry one.
    assert [run["dry_run"] for run in status["runs"] if run["began_by"] == "schedule"] in ([True], [])
    assert "GarbageCollectionRun" in drift(server, "audit", "list", "--type", "GarbageCollectionRun", "--json")


def test_a_bad_digest_and_a_bad_time_are_named(server: Server) -> None:
    drift(server, "gc", "restore", "sha256:xyz", code=1)
    drift(server, "gc", "restore", "--since", "yesterday", code=2)
    drift(server, "gc", "restore", code=2)


def test_tags_that_may_not_move_or_go(registry: Registry, repository: str) -> None:
    first, second = (push_image(registry, repository, None) for _ in range(2))
    for tag in ("stays-1", "lives-1"):
        registry.push(repository, first, tag)
    detail = refused(registry.put_manifest(repository, second, "stays-1"), 403, "DENIED")
    assert detail == {"tag": "stays-1", "rule": "registry.no_overwrite_tags: stays-*"}
    registry.push(repository, second, "lives-1")
    detail = refused(registry.delete(f"/v2/{repository}/manifests/lives-1"), 403, "DENIED")
    assert detail == {"tag": "lives-1", "rule": "registry.no_delete_tags: lives-*"}
    refused(registry.delete(f"/v2/{repository}/manifests/{second.digest}"), 403, "DENIED")
    assert registry.delete(f"/v2/{repository}/manifests/stays-1").status_code == 202


def test_quotas_know_what_was_collected_and_restored(server: Server, registry: Registry, repository: str) -> None:
    lost = push_image(registry, repository, "lost", unique_blob(3000))
    push_image(registry, repository, "kept", unique_blob(100))
    assert registry.delete(f"/v2/{repository}/manifests/lost").status_code == 202
    collected(server)
    drift(server, "gc", "restore", lost.digest)
    assert "0 held another size" in drift(server, "quota", "recount")


def test_referrers_protect_their_subject(tmp_path: Path) -> None:
    with (
        Server(tmp_path / "protect", *SETTINGS, "registry.referrers=protect") as server,
        Registry(server.url) as registry,
    ):
        signed, plain = (push_image(registry, "app", None) for _ in range(2))
        signature = registry.push("app", image(registry.push_blob("app", unique_blob()), subject=signed))
        detail = refused(registry.delete(f"/v2/app/manifests/{signed.digest}"), 403, "DENIED")
        assert detail["rule"] == "registry.referrers: protect"
        removed = {one["digest"] for one in collected(server)}
        assert plain.digest in removed
        assert not removed & {signed.digest, signature.digest}
        assert registry.delete(f"/v2/app/manifests/{signature.digest}").status_code == 202
        assert registry.delete(f"/v2/app/manifests/{signed.digest}").status_code == 202


def test_the_server_collects_by_itself(tmp_path: Path) -> None:
    settings = (
        *SETTINGS,
        "garbage_collector.interval_hours=0.0003",
        "registry.lease_seconds=1",
        "registry.restore_hours=0",
    )
    with Server(tmp_path / "scheduled", *settings) as server, Registry(server.url) as registry:
        blob = registry.push_blob("app", unique_blob())
        path = server.folder / "data/blobs/sha256" / blob.digest[7:9] / blob.digest[7:]
        eventually(lambda: not path.exists(), "a blob that nobody needs gone")
        runs = registry.get("/admin/gc/status").json()["runs"]
        assert {run["began_by"] for run in runs} == {"schedule"}
        assert [run["dry_run"] for run in runs if run["id"] == 1] in ([True], [])


def test_without_a_collector(tmp_path: Path) -> None:
    with Server(tmp_path / "without", "registry.immutable_tags=[]") as server, Registry(server.url) as registry:
        assert registry.get("/admin/gc/status").json()["status"] == "not_configured"
        answer = registry.post("/admin/gc")
        assert answer.status_code == 405
        assert "garbage_collector.enabled" in answer.json()["errors"][0]["message"]


def test_the_page(server: Server, registry: Registry, repository: str) -> None:
    lost = push_image(registry, repository, "lost")
    assert registry.delete(f"/v2/{repository}/manifests/{lost.digest}").status_code == 202
    (example,) = re.findall(r"sha256:[0-9a-f]{64}", PAGE)
    lines = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [line.removeprefix("$ drift ") for line in lines if line.startswith("$ drift ")]
    assert len(commands) == 6
    for command in commands:
        drift(server, *command.replace(example, lost.digest).replace("team/app", repository).split(), code=0)
        if "restore" in command:
            registry.delete(f"/v2/{repository}/manifests/{lost.digest}")
    (answer,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert registry.post("/admin/gc", None, b'{"dry_run": true}').json().keys() == answer.keys()
    assert answer["metrics"].keys() == registry.post("/admin/gc").json()["metrics"].keys()
