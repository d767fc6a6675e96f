"""Subscribers of throw-away features: told of every change, in order, again after a failure, on after a crash."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server

PATIENCE = 30.0
"""Seconds after which something counts as never happening."""

SUBSCRIBER = r"""
import asyncio, json, os
from contextlib import asynccontextmanager
from drift_core.api import ACTIONS, Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    folder: str

class Journal:
    '''Writes down what it is told; a file named like a repository, or `all`, makes it fail, one named `slow` wait.'''
    name = "journal"
    subscribed = ACTIONS
    def __init__(self, folder):
        self.folder = folder
    def there(self, name):
        return os.path.exists(os.path.join(self.folder, name))
    async def on_event(self, event):
        if self.there("slow"):
            await asyncio.sleep(60)
        if self.there("all") or self.there(event.repository):
            raise RuntimeError("not now")
        line = {"id": event.id, "action": event.action, "repository": event.repository, "digest": event.digest,
                "tags": event.tags, "size": event.size, "source": event.source, "subject": event.subject}
        with open(os.path.join(self.folder, "journal"), "a") as file:
            file.write(json.dumps(line) + "\n")

@asynccontextmanager
async def open_journal(config, services):
    yield Journal(config.folder)

@hookimpl
def drift_features():
    return [Driver("journal", Config, open_journal)]
"""


class Journal:
    """What the subscriber wrote down, and the files by which it is made to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def told(self) -> list[dict[str, Any]]:
        file = self.folder / "journal"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def of(self, repository: str) -> list[str]:
        return [one["digest"] for one in self.told() if one["repository"] == repository]

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.02)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    installation = Installation(tmp_path / "site")
    installation.add("acme-journal", {"journal": "acme_journal"}, {"acme_journal": SUBSCRIBER})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    (tmp_path / "journal").mkdir()
    return Journal(tmp_path / "journal")


@pytest.fixture
def server(tmp_path: Path, journal: Journal) -> Server:
    """A server that is not started yet."""
    return Server(tmp_path / "server", f"journal.folder={journal.folder}", "plugins.subscriber_seconds=1")


def push_blob(server: Server, repository: str) -> str:
    blob = unique_blob(20)
    answer = httpx.post(f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}", content=blob.content)
    assert answer.status_code == 201
    return blob.digest


def test_is_told_every_change_in_order(server: Server, journal: Journal) -> None:
    with server:
        url = f"{server.url}/v2/app"
        layer = push_blob(server, "app")
        httpx.post(f"{url}/blobs/uploads/?digest={EMPTY_CONFIG.digest}", content=EMPTY_CONFIG.content)
        manifest = image(EMPTY_CONFIG)
        headers = {"content-type": manifest.media_type}
        for tag in ("v1", "v2"):
            assert httpx.put(f"{url}/manifests/{tag}", content=manifest.content, headers=headers).status_code == 201
        assert httpx.get(f"{url}/manifests/v1").status_code == 200
        httpx.post(f"{server.url}/v2/other/blobs/uploads/?mount={layer}&from=app")
        httpx.delete(f"{url}/blobs/{layer}")
        httpx.delete(f"{url}/manifests/v1")
        httpx.delete(f"{url}/manifests/{manifest.digest}")
        assert httpx.delete(f"{url}/manifests/{manifest.digest}").status_code == 404
        journal.until(lambda: len(journal.told()) >= 8)
    told = journal.told()
    fields = ("action", "repository", "digest", "tags", "size", "source")
    assert [tuple(one[field] for field in fields) for one in told] == [
        ("blob.push", "app", layer, [], 20, None),
        ("blob.push", "app", EMPTY_CONFIG.digest, [], 2, None),
        ("manifest.push", "app", manifest.digest, ["v1"], len(manifest.content), None),
        ("manifest.push", "app", manifest.digest, ["v2"], len(manifest.content), None),
        ("blob.mount", "other", layer, [], None, "app"),
        ("blob.delete", "app", layer, [], None, None),
        ("tag.delete", "app", manifest.digest, ["v1"], None, None),
        ("manifest.delete", "app", manifest.digest, ["v2"], None, None),
    ]
    assert [one["id"] for one in told] == sorted({one["id"] for one in told})


def test_is_told_what_a_manifest_was_about_that_is_deleted(server: Server, journal: Journal) -> None:
    with server:
        url = f"{server.url}/v2/app"
        httpx.post(f"{url}/blobs/uploads/?digest={EMPTY_CONFIG.digest}", content=EMPTY_CONFIG.content)
        manifest = image(EMPTY_CONFIG)
        artifact = image(EMPTY_CONFIG, subject=manifest, artifact_type="application/x.signature")
        for one in (manifest, artifact):
            headers = {"content-type": one.media_type}
            assert httpx.put(f"{url}/manifests/{one.digest}", content=one.content, headers=headers).status_code == 201
        assert httpx.delete(f"{url}/manifests/{artifact.digest}").status_code == 202
        journal.until(lambda: len(journal.told()) >= 4)
    *_, last = journal.told()
    assert (last["action"], last["digest"], last["subject"]) == ("manifest.delete", artifact.digest, manifest.digest)


def test_goes_on_after_a_crash_with_what_was_not_taken(server: Server, journal: Journal) -> None:
    server.start()
    first = push_blob(server, "app")
    journal.until(lambda: journal.of("app") == [first])
    (journal.folder / "all").touch()
    rest = [push_blob(server, "app") for _ in range(10)]
    server.kill()
    (journal.folder / "all").unlink()
    with server:
        rest.append(push_blob(server, "app"))
        journal.until(lambda: set(journal.of("app")) == {first, *rest})
    # At least once: the first may have been told again, but each next one only after the one before.
    assert list(dict.fromkeys(journal.of("app"))) == [first, *rest]


def test_a_repository_that_fails_waits_alone_and_keeps_its_order(server: Server, journal: Journal) -> None:
    (journal.folder / "stuck").touch()
    with server:
        stuck, free = [], []
        for _ in range(5):
            stuck.append(push_blob(server, "stuck"))
            free.append(push_blob(server, "free"))
        journal.until(lambda: journal.of("free") == free)
        assert journal.of("stuck") == []
        server.stop()
        server.start()
        stuck.append(push_blob(server, "stuck"))
        (journal.folder / "stuck").unlink()
        journal.until(lambda: journal.of("stuck") == stuck)
        stuck.append(push_blob(server, "stuck"))
        journal.until(lambda: journal.of("stuck") == stuck)
        assert list(dict.fromkeys(journal.of("free"))) == free


def test_one_that_is_slow_for_everybody_holds_up_no_push(server: Server, journal: Journal) -> None:
    (journal.folder / "slow").touch()
    with server:
        pushed = {f"team/app{number}": push_blob(server, f"team/app{number}") for number in range(8)}
        assert httpx.get(f"{server.url}/v2/_catalog").json()["repositories"] == sorted(pushed)
        journal.until(lambda: "will be told again" in server.log.read_text())
        (journal.folder / "slow").unlink()
        journal.until(lambda: {one["repository"]: one["digest"] for one in journal.told()} == pushed)
        log = [json.loads(line) for line in server.log.read_text().splitlines() if "will be told again" in line]
    assert {(line["plugin"], line["subscriber"]) for line in log} == {("journal", "journal")}


def test_two_servers_on_one_database_tell_each_event_once(server: Server, journal: Journal, tmp_path: Path) -> None:
    beside = Server(tmp_path / "beside", f"storage.path={server.folder / 'data'}", *server.settings[4:])
    with server, beside:
        pushed = [push_blob(one, "app") for _ in range(10) for one in (server, beside)]
        journal.until(lambda: len(journal.told()) >= len(pushed))
        assert journal.of("app") == pushed


def test_who_comes_later_is_told_only_what_happens_then(
    server: Server, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = server.settings.pop(4)
    monkeypatch.setenv("DRIFT_PLUGINS__DISABLED", '["journal"]')
    with server:
        push_blob(server, "app")
    monkeypatch.delenv("DRIFT_PLUGINS__DISABLED")
    server.settings.append(setting)
    with server:
        later = push_blob(server, "app")
        journal.until(lambda: journal.of("app") == [later])
