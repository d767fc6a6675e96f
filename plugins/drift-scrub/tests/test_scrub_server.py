"""A real server on a folder: a flipped byte is found, the blob unknown until it is pushed again, and all else whole."""

import json
import os
import subprocess
import time
from pathlib import Path

import httpx

from tests.oci.content import EMPTY_CONFIG, Blob, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

PATIENCE = 120.0
ON = "scrub.enabled=true"


def push(server: Server, repository: str, blob: Blob) -> None:
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    headers = {"content-type": "application/octet-stream"}
    assert httpx.post(url, content=blob.content, headers=headers).status_code == 201


def get(server: Server, repository: str, blob: Blob) -> httpx.Response:
    return httpx.get(f"{server.url}/v2/{repository}/blobs/{blob.digest}")


def file_of(server: Server, blob: Blob) -> Path:
    encoded = blob.digest.partition(":")[2]
    (found,) = [path for path in (server.folder / "data").rglob(f"*{encoded}*") if path.is_file()]
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def command(server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [str(DRIFT), "scrub", *arguments, *server.arguments(), "--set", ON]
    wide = os.environ | {"COLUMNS": "200"}
    return subprocess.run(words, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_damage_is_found_hidden_and_healed_by_a_push(tmp_path: Path) -> None:
    flipped, cut, gone, sound = (unique_blob(300_000) for _ in range(4))
    broken = (flipped, cut, gone)
    with Server(tmp_path, "auth.mode=none") as server:
        for repository in ("team/app", "team/base"):
            for blob in (*broken, sound):
                push(server, repository, blob)
        push(server, "team/app", EMPTY_CONFIG)
        manifest = image(EMPTY_CONFIG, *broken, sound)
        url = f"{server.url}/v2/team/app/manifests/v1"
        headers = {"content-type": manifest.media_type}
        assert httpx.put(url, content=manifest.content, headers=headers).status_code == 201
        # Workers remember what they were asked for.
        assert {get(server, "team/app", blob).status_code for blob in (*broken, sound)} == {200}

        flip(file_of(server, flipped))
        file_of(server, cut).chmod(0o644)
        file_of(server, cut).write_bytes(cut.content[:1000])
        file_of(server, gone).unlink()
        done = command(server, "run", "--rate", "0")
        assert done.returncode == 1, done.stderr
        assert "read 5 blobs, 1200002 bytes; 3 damaged and in quarantine, 0 could not be read\n" in done.stdout
        assert all(blob.digest in done.stdout for blob in broken)
        assert sound.digest not in done.stdout

        for repository in ("team/app", "team/base"):
            for blob in broken:
                answer = get(server, repository, blob)
                assert answer.status_code == 404
                assert answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"
                assert httpx.head(answer.url).status_code == 404
            assert get(server, repository, sound).content == sound.content
        assert httpx.get(url, headers={"accept": manifest.media_type}).content == manifest.content
        status = json.loads(command(server, "status", "--json").stdout)
        assert [one["digest"] for one in status["quarantined"]] == sorted(blob.digest for blob in broken)
        assert (status["last"]["checked"], status["last"]["damaged"]) == (5, 3)

        for blob in broken:
            push(server, "team/base", blob)
            for repository in ("team/app", "team/base"):
                assert get(server, repository, blob).content == blob.content
        done = command(server, "run", "--rate", "0")
        assert (done.returncode, done.stdout) == (
            0,
            "read 5 blobs, 1200002 bytes; 0 damaged and in quarantine, 0 could not be read\n",
        )
        assert "nothing is in quarantine" in command(server, "status").stdout


def test_a_server_reads_by_itself(tmp_path: Path) -> None:
    broken, sound = unique_blob(1000), unique_blob(1000)
    with Server(tmp_path, "auth.mode=none", workers=1) as server:
        push(server, "app", broken)
        push(server, "app", sound)
    flip(file_of(server, broken))
    with Server(tmp_path, "auth.mode=none", ON) as server:
        deadline = time.monotonic() + PATIENCE
        while get(server, "app", broken).status_code != 404:
            assert time.monotonic() < deadline, server.log.read_text()[-4000:]
            time.sleep(0.05)
        assert get(server, "app", sound).content == sound.content
    assert "a stored blob is damaged and in quarantine" in server.log.read_text()
    assert broken.digest in server.log.read_text()
