"""The route by which rules are explained: as the command says it, to who may do everything, and nothing is dropped."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from drift_retention import explaining
from drift_retention.retention import Retention

from drift_core.api import Denied
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

from .conftest import OpenRetention
from .shelf import Shelf, tag

ADMIN, READER = ("admin", "good-password-1"), ("eve", "good-password-2")
PATH = "/api/retention/explain"
SETTINGS = (
    'auth.mode="basic"',
    f'auth.basic.users=["{":".join(ADMIN)}", "{":".join(READER)}"]',
    "rbac.enabled=true",
    'rbac.admins=["admin"]',
    "retention.enabled=true",
    "retention.dry_run=true",
    "retention.min_age_days=0",
    "retention.keep=[{newest=2}]",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose repository `team/app` has the tags a to e, of which the two newest are kept."""
    with Server(tmp_path_factory.mktemp("server"), *SETTINGS, workers=1) as server:
        with httpx.Client(base_url=server.url, auth=ADMIN, timeout=60) as client:
            for name in "abcde":
                layer = unique_blob(100)
                for blob in (EMPTY_CONFIG, layer):
                    path = f"/v2/team/app/blobs/uploads/?digest={blob.digest}"
                    assert client.post(path, content=blob.content).status_code == 201
                manifest = image(EMPTY_CONFIG, layer)
                headers = {"content-type": manifest.media_type}
                path = f"/v2/team/app/manifests/{name}"
                assert client.put(path, content=manifest.content, headers=headers).status_code == 201
        yield server


def ask(server: Server, status: int = 200, auth: tuple[str, str] | None = ADMIN, **query: str | int) -> Any:
    answer = httpx.get(f"{server.url}{PATH}", params=query, auth=auth, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_it_says_what_the_command_says_and_drops_nothing(server: Server) -> None:
    found = ask(server, repository="team/app")
    assert (found["repository"], found["total"], found["dropped"], found["last"]) == ("team/app", 5, 3, None)
    command = [str(DRIFT), "retention", "explain", "team/app", "--json", *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [{"repository": "team/app", **one} for one in found["tags"]] == [
        json.loads(line) for line in done.stdout.splitlines()
    ]
    assert {one["tag"] for one in found["tags"] if one["kept"]} == {"d", "e"}
    assert ask(server, repository="team/app")["total"] == 5


def test_one_tag_and_pages(server: Server) -> None:
    one = ask(server, repository="team/app", tag="b")
    assert ([tag["tag"] for tag in one["tags"]], one["dropped"], one["last"]) == (["b"], 3, None)
    names: list[list[str]] = []
    last = ""
    while last is not None:
        page = ask(server, repository="team/app", limit=2, last=last)
        names.append([tag["tag"] for tag in page["tags"]])
        last = page["last"]
    assert names == [["a", "b"], ["c", "d"], ["e"]]


def test_who_may_not_do_everything_is_refused(server: Server) -> None:
    assert ask(server, 401, None, repository="team/app")["errors"][0]["code"] == "UNAUTHORIZED"
    assert ask(server, 403, READER, repository="team/app")["errors"][0]["code"] == "DENIED"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 400, "UNSUPPORTED"),
        ({"repository": "team/ap"}, 404, "NAME_UNKNOWN"),
        ({"repository": "team/app", "tag": "z"}, 404, "MANIFEST_UNKNOWN"),
        ({"repository": "team/app\0"}, 400, "UNSUPPORTED"),
        ({"repository": "team/app", "limit": 0}, 400, "UNSUPPORTED"),
        ({"repository": "team/app", "limit": 1001}, 400, "UNSUPPORTED"),
    ],
)
def test_what_cannot_be_answered(server: Server, query: dict[str, Any], status: int, code: str) -> None:
    assert ask(server, status, **query)["errors"][0]["code"] == code


async def test_a_large_repository_is_left_to_the_command(
    open_feature: OpenRetention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "MOST", 1)
    async with open_feature(keep=[{"newest": 1}]) as retention:
        assert isinstance(retention, Retention)
        shelf: Any = Shelf({"app": [tag("a", 1.0), tag("b", 2.0)]})
        retention.use(shelf)
        with pytest.raises(Denied, match="drift retention explain"):
            await explaining.explain(retention, "app")
