"""Gates of throw-away features: asked before each action, and what they refuse, fail at or are slow with is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server

GATE = """
import asyncio, json
from contextlib import asynccontextmanager
from drift_core.api import ACTIONS, Denied, Driver, Struct, TooManyRequests, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    file: str

class Watch:
    '''Writes down what it is asked; what happens to a repository is in its name.'''
    name = "watch"
    gated = ACTIONS
    def __init__(self, file):
        self.file = file
    async def admit(self, change):
        seen = {"action": change.action, "repository": change.repository, "digest": change.digest, "tags": change.tags,
                "size": change.size, "media_type": change.media_type, "source": change.source,
                "content": len(change.content or b""), "identity": change.identity}
        with open(self.file, "a") as file:
            file.write(json.dumps(seen) + "\\n")
        if change.repository.endswith(change.action.replace(".", "-")):
            raise Denied("this is for later")
        if change.repository == "failing":
            raise RuntimeError("secret detail")
        if change.repository == "slow":
            await asyncio.sleep(60)
        if change.repository == "deaf":
            try:
                await asyncio.sleep(60)
            except BaseException:
                pass
        if change.repository == "busy":
            raise TooManyRequests(retry_after=7)

@asynccontextmanager
async def open_watch(config, services):
    yield Watch(config.file)

@hookimpl
def drift_features():
    return [Driver("watch", Config, open_watch)]
"""
NEVER = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Never:
    name = "wrong"
    gated = ("manifest.push",)
    def admit(self, change):
        return True

@asynccontextmanager
async def open_never(config, services):
    yield Never()

@hookimpl
def drift_features():
    return [Driver("wrong", Config, open_never)]
"""


class Gated:
    """A server behind the gate, and what the gate was asked."""

    def __init__(self, server: Server, file: Path) -> None:
        self.url = server.url
        self.file = file

    def asked(self) -> list[dict[str, Any]]:
        """Returns what the gate was asked since the last call."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        return httpx.request(method, f"{self.url}/v2/{path}", content=content, headers=headers, timeout=30)

    def push_blob(self, repository: str, content: bytes, digest: str) -> httpx.Response:
        return self.ask("POST", f"{repository}/blobs/uploads/?digest={digest}", content)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    folder = tmp_path_factory.mktemp("gates")
    installation = Installation(folder / "site")
    installation.add("acme-watch", {"watch": "acme_watch"}, {"acme_watch": GATE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        file = folder / "asked"
        with Server(folder / "server", f"watch.file={file}", "plugins.gate_seconds=0.5", workers=1) as server:
            yield Gated(server, file)


def refusal(answer: httpx.Response) -> tuple[int, str, str, str]:
    (error,) = answer.json()["errors"]
    return answer.status_code, error["code"], error["detail"]["plugin"], error["detail"]["reason"]


def test_is_asked_before_each_action_with_what_it_needs_to_know(gated: Gated) -> None:
    gated.asked()
    layer = unique_blob(100)
    for blob in (EMPTY_CONFIG, layer):
        assert gated.push_blob("team/app", blob.content, blob.digest).status_code == 201
    assert [(one["action"], one["size"], one["digest"]) for one in gated.asked()] == [
        ("blob.push", 2, EMPTY_CONFIG.digest),
        ("blob.push", 100, layer.digest),
    ]
    manifest = image(EMPTY_CONFIG, layer)
    path = "team/app/manifests/v1"
    assert gated.ask("PUT", path, manifest.content, **{"content-type": manifest.media_type}).status_code == 201
    size = len(manifest.content)
    (pushed,) = gated.asked()
    assert pushed == {
        "action": "manifest.push",
        "repository": "team/app",
        "digest": manifest.digest,
        "tags": ["v1"],
        "size": size,
        "media_type": manifest.media_type,
        "source": None,
        "content": size,
        "identity": None,
    }
    assert gated.ask("HEAD", path).status_code == 200
    (pulled,) = gated.asked()
    assert pulled == pushed | {"action": "manifest.pull"}
    assert gated.ask("GET", f"team/app/blobs/{layer.digest}").content == layer.content
    assert gated.ask("POST", f"team/other/blobs/uploads/?mount={layer.digest}&from=team/app").status_code == 201
    assert gated.ask("DELETE", f"team/other/blobs/{layer.digest}").status_code == 202
    assert gated.ask("DELETE", path).status_code == 202
    assert gated.ask("DELETE", f"team/app/manifests/{manifest.digest}").status_code == 202
    assert [(one["action"], one["repository"], one["digest"], one["source"]) for one in gated.asked()] == [
        ("blob.pull", "team/app", layer.digest, None),
        ("blob.mount", "team/other", layer.digest, "team/app"),
        ("blob.delete", "team/other", layer.digest, None),
        ("tag.delete", "team/app", None, None),
        ("manifest.delete", "team/app", manifest.digest, None),
    ]


def test_is_told_which_tags_a_deletion_takes_along(gated: Gated) -> None:
    manifest = image(EMPTY_CONFIG)
    assert gated.push_blob("team/tagged", EMPTY_CONFIG.content, EMPTY_CONFIG.digest).status_code == 201
    for tag in ("v1", "v2"):
        path = f"team/tagged/manifests/{tag}"
        assert gated.ask("PUT", path, manifest.content, **{"content-type": manifest.media_type}).status_code == 201
    gated.asked()
    assert gated.ask("DELETE", f"team/tagged/manifests/{manifest.digest}").status_code == 202
    assert [(one["action"], sorted(one["tags"])) for one in gated.asked()] == [("manifest.delete", ["v1", "v2"])]


@pytest.mark.parametrize("action", ["blob-push", "blob-mount", "blob-pull", "blob-delete"])
def test_a_refused_blob_action_is_denied_and_did_not_happen(gated: Gated, action: str) -> None:
    blob, free, repository = unique_blob(50), "team/free", f"team/{action}"
    assert gated.push_blob(free, blob.content, blob.digest).status_code == 201
    if action == "blob-push":
        answer = gated.push_blob(repository, blob.content, blob.digest)
        assert gated.ask("HEAD", f"{repository}/blobs/{blob.digest}").status_code == 404
    elif action == "blob-mount":
        answer = gated.ask("POST", f"{repository}/blobs/uploads/?mount={blob.digest}&from={free}")
        assert gated.ask("HEAD", f"{repository}/blobs/{blob.digest}").status_code == 404
    else:
        assert gated.push_blob(repository, blob.content, blob.digest).status_code == 201
        answer = gated.ask("GET" if action == "blob-pull" else "DELETE", f"{repository}/blobs/{blob.digest}")
        assert gated.push_blob(repository, blob.content, blob.digest).status_code == 201
    assert refusal(answer) == (403, "DENIED", "watch", "this is for later")
    assert answer.json()["errors"][0]["message"] == "the plugin watch refuses: this is for later"


@pytest.mark.parametrize("action", ["manifest-push", "manifest-pull", "manifest-delete", "tag-delete"])
def test_a_refused_manifest_action_is_denied_and_did_not_happen(gated: Gated, action: str) -> None:
    repository = f"team/{action}"
    gated.push_blob(repository, EMPTY_CONFIG.content, EMPTY_CONFIG.digest)
    manifest = image(EMPTY_CONFIG)
    path = f"{repository}/manifests/v1"
    pushed = gated.ask("PUT", path, manifest.content, **{"content-type": manifest.media_type})
    by_digest = f"{repository}/manifests/{manifest.digest}"
    if action == "manifest-push":
        assert refusal(pushed)[:3] == (403, "DENIED", "watch")
        assert gated.ask("GET", path).status_code == 404
        return
    assert pushed.status_code == 201
    if action == "manifest-pull":
        assert refusal(gated.ask("GET", path))[:3] == (403, "DENIED", "watch")
        assert refusal(gated.ask("GET", by_digest))[:3] == (403, "DENIED", "watch")
        return
    refused = gated.ask("DELETE", by_digest if action == "manifest-delete" else path)
    assert refusal(refused)[:3] == (403, "DENIED", "watch")
    assert gated.ask("GET", path).content == manifest.content


@pytest.mark.parametrize(
    ("repository", "status", "error_code", "reason"),
    [
        ("failing", 403, "DENIED", "it failed"),
        ("slow", 403, "DENIED", "it did not answer within 0.5 s"),
        ("deaf", 403, "DENIED", "it did not answer within 0.5 s"),
        ("busy", 429, "TOOMANYREQUESTS", "too many requests"),
    ],
)
def test_a_gate_that_fails_refuses(gated: Gated, repository: str, status: int, error_code: str, reason: str) -> None:
    blob = unique_blob(10)
    answer = gated.push_blob(repository, blob.content, blob.digest)
    assert refusal(answer) == (status, error_code, "watch", reason)
    assert "secret detail" not in answer.text
    assert gated.ask("HEAD", f"{repository}/blobs/{blob.digest}").status_code == 404


def test_a_gate_that_is_no_coroutine_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(tmp_path / "site")
    installation.add("acme-wrong", {"wrong": "acme_wrong"}, {"acme_wrong": NEVER})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with Server(tmp_path / "server", workers=1) as server:
        gated = Gated(server, tmp_path / "unused")
        gated.push_blob("app", EMPTY_CONFIG.content, EMPTY_CONFIG.digest)
        manifest = image(EMPTY_CONFIG)
        answer = gated.ask("PUT", "app/manifests/v1", manifest.content, **{"content-type": manifest.media_type})
        assert refusal(answer) == (403, "DENIED", "wrong", "it failed")
        assert gated.ask("GET", "app/manifests/v1").status_code == 404


def test_a_gate_for_an_unknown_action_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(tmp_path / "site")
    source = NEVER.replace("manifest.push", "manifest.pusj")
    installation.add("acme-wrong", {"wrong": "acme_wrong"}, {"acme_wrong": source})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with pytest.raises(RuntimeError, match=r"acme-wrong: gated has 'manifest\.pusj'; the actions are manifest\.pull,"):
        Server(tmp_path / "server", workers=1).start()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("gates = ('manifest.push',)", "acme-wrong: has admit, but not gated"),
        ("gated = 5", "acme-wrong: gated cannot be read: TypeError"),
    ],
)
def test_a_gate_by_half_stops_the_start(
    written: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never be asked, and admit everything."""
    installation = Installation(tmp_path / "site")
    source = NEVER.replace('gated = ("manifest.push",)', written)
    installation.add("acme-wrong", {"wrong": "acme_wrong"}, {"acme_wrong": source})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with pytest.raises(RuntimeError, match=message):
        Server(tmp_path / "server", workers=1).start()


def test_the_actions_of_a_gate_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator has nothing left for whoever looks a second time."""
    installation = Installation(tmp_path / "site")
    source = NEVER.replace('gated = ("manifest.push",)', 'gated = (action for action in ["blob.push"])')
    installation.add("acme-wrong", {"wrong": "acme_wrong"}, {"acme_wrong": source})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with Server(tmp_path / "server", workers=1) as server:
        gated = Gated(server, tmp_path / "unused")
        assert gated.push_blob("app", EMPTY_CONFIG.content, EMPTY_CONFIG.digest).status_code == 403
