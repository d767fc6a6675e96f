"""A real server with a quota: clients push until it is full, delete, and push again; limits and usage last."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.oci.content import Blob, unique_blob, unique_index
from tests.server import DRIFT, Server
from tests.tools import ROOT

PATIENCE = 120.0
SIZE = 100_000
SETTINGS = ("auth.mode=none", "quota.enabled=true", 'quota.organizations={acme="1MB"}')


def push(server: Server, repository: str, blob: Blob) -> httpx.Response:
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    return httpx.post(url, content=blob.content, headers={"content-type": "application/octet-stream"})


def delete(server: Server, repository: str, blob: Blob) -> None:
    assert httpx.delete(f"{server.url}/v2/{repository}/blobs/{blob.digest}").status_code == 202


def used(server: Server) -> dict[str, int]:
    answer = httpx.get(f"{server.url}/api/quota")
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["used"] for one in answer.json()["organizations"]}


def command(server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [str(DRIFT), "quota", *arguments, *server.arguments()]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def await_count(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not httpx.get(f"{server.url}/api/quota").json()["complete"]:
        assert time.monotonic() < deadline, server.log.read_text()[-4000:]
        time.sleep(0.05)


def test_push_until_full_delete_and_push_again(tmp_path: Path) -> None:
    with Server(tmp_path, *SETTINGS, workers=1) as server:
        held = [unique_blob(SIZE) for _ in range(10)]
        for number, blob in enumerate(held):
            assert push(server, ("acme/app", "acme/base")[number % 2], blob).status_code == 201
        more = unique_blob(1)
        refused = push(server, "acme/app", more)
        assert refused.status_code == 403
        (error,) = refused.json()["errors"]
        assert error["code"] == "DENIED"
        assert "the quota of the organization acme is 1 MB (1000000 bytes)" in error["message"]
        figures = {"quota": "organization", "name": "acme", "limit": 1_000_000, "used": 1_000_000, "asked": 1}
        assert figures.items() <= error["detail"].items()
        # Nothing of it is kept, others are not concerned, and a full quota still takes what needs no bytes.
        assert httpx.head(f"{server.url}/v2/acme/app/blobs/{more.digest}").status_code == 404
        assert push(server, "other/app", more).status_code == 201
        index = unique_index()
        headers = {"content-type": index.media_type}
        url = f"{server.url}/v2/acme/app/manifests/v1"
        assert httpx.put(url, content=index.content, headers=headers).status_code == 201
        delete(server, "acme/app", held[0])
        assert push(server, "acme/app", unique_blob(SIZE)).status_code == 201
        assert push(server, "acme/app", more).status_code == 403
        assert used(server) == {"acme": 1_000_000, "other": 1}


def test_a_mount_and_a_push_of_what_is_held_count_once_for_each_repository(tmp_path: Path) -> None:
    with Server(tmp_path, *SETTINGS, workers=1) as server:
        blob = unique_blob(SIZE)
        for _ in range(3):
            assert push(server, "acme/app", blob).status_code == 201
        for _ in range(2):
            url = f"{server.url}/v2/acme/other/blobs/uploads/?mount={blob.digest}&from=acme/app"
            assert httpx.post(url).status_code == 201
        assert used(server) == {"acme": 2 * SIZE}
        delete(server, "acme/app", blob)
        assert used(server) == {"acme": SIZE}


def test_usage_lasts_and_is_counted_where_the_plugin_was_not(tmp_path: Path) -> None:
    with Server(tmp_path, "auth.mode=none", workers=1) as server:
        assert push(server, "acme/app", unique_blob(SIZE)).status_code == 201
    with Server(tmp_path, *SETTINGS, workers=1) as server:
        await_count(server)
        assert used(server) == {"acme": SIZE}
        assert push(server, "acme/app", unique_blob(SIZE)).status_code == 201
        server.kill()
    with Server(tmp_path, *SETTINGS, workers=1) as server:
        assert used(server) == {"acme": 2 * SIZE}
    with Server(tmp_path, *SETTINGS[:-1], 'quota.repositories={"acme/*"=250_000}', workers=1) as server:
        assert push(server, "acme/app", unique_blob(50_001)).status_code == 403
        assert push(server, "acme/app", unique_blob(50_000)).status_code == 201


def test_pushes_at_once_exceed_it_by_no_more_than_was_in_flight(tmp_path: Path, database_url: str | None) -> None:
    """Beside them all is counted again."""
    count = 8
    database = () if database_url is None else (f"metadata.url={database_url}",)
    with Server(tmp_path, *SETTINGS, *database) as server, ThreadPoolExecutor(count) as pool:
        blobs = [unique_blob(SIZE) for _ in range(5 * count)]
        answers = pool.map(lambda blob: push(server, "acme/app", blob).status_code, blobs)
        recounted = command(server, "recount")
        statuses = list(answers)
        taken = statuses.count(201)
        assert set(statuses) == {201, 403}
        assert 10 <= taken < 10 + count
        assert recounted.returncode == 0, recounted.stderr
        assert used(server) == {"acme": taken * SIZE}
        assert push(server, "acme/app", unique_blob(1)).status_code == 403
        assert command(server, "recount").stdout == "counted 1 repositories; 0 held another size than was known\n"


def test_commands(tmp_path: Path) -> None:
    with Server(tmp_path, *SETTINGS, workers=1) as server:
        for repository in ("acme/app", "other/app"):
            assert push(server, repository, unique_blob(800_000)).status_code == 201
        await_count(server)
        shown: dict[str, Any] = json.loads(command(server, "show", "--json").stdout)
        assert shown == httpx.get(f"{server.url}/api/quota").json()
        assert shown["organizations"][0] == {"name": "acme", "used": 800_000, "limit": 1_000_000, "share": 0.8}
        table = command(server, "show").stdout
        (line,) = [line for line in table.splitlines() if "acme " in line]
        assert all(part in line for part in ("800 KB", "1 MB", "80%", "━━"))
        assert command(server, "recount", "acme/app").stdout == "acme/app holds 800000 bytes\n"
        done = command(server, "recount")
        assert done.stdout == "counted 2 repositories; 0 held another size than was known\n", done.stderr
