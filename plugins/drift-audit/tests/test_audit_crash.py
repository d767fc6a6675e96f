"""Kills a server under pushes: what was pushed has its record, acknowledged or not, and the chain stays whole."""

import http.client
import json
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.oci.content import unique_index
from tests.server import DRIFT, Server
from tests.tools import ROOT

CLIENTS = 4
PATIENCE = 120.0


class Pushes:
    """What was sent and what was acknowledged, as pairs of a tag and a digest."""

    def __init__(self) -> None:
        self.sent: set[tuple[str, str]] = set()
        self.acknowledged: set[tuple[str, str]] = set()

    def push_until(self, server: Server, name: str, stop: threading.Event) -> None:
        number = 0
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            try:
                while not stop.is_set():
                    number += 1
                    self._push(connection, f"{name}-{number}")
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()

    def _push(self, connection: http.client.HTTPConnection, tag: str) -> None:
        manifest = unique_index(tag=tag)
        push = (tag, manifest.digest)
        self.sent.add(push)
        headers = {"content-type": manifest.media_type}
        connection.request("PUT", f"/v2/crash/app/manifests/{tag}", manifest.content, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
        self.acknowledged.add(push)


def crash(folder: Path, pushes: int, kills: int) -> None:
    """Kills a server ``kills`` times, and has at least so many pushes acknowledged."""
    chance = random.Random(0)
    server = Server(
        folder / "server",
        "registry.immutable_tags=[]",
        "audit.enabled=true",
        f"audit.key_file={folder / 'key'}",
        f"audit.file_export.path={folder / 'audit.jsonl'}",
    )
    done = Pushes()
    try:
        for number in range(kills):
            server.start(PATIENCE)
            stop = threading.Event()
            with ThreadPoolExecutor(CLIENTS) as pool:
                running = [
                    pool.submit(done.push_until, server, f"{number}-{client}", stop) for client in range(CLIENTS)
                ]
                wanted = pushes * (number + 1) / kills
                deadline = time.monotonic() + PATIENCE
                while len(done.acknowledged) < wanted:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                time.sleep(chance.uniform(0, 0.1))
                server.kill()
                stop.set()
                for one in running:
                    one.result(PATIENCE)
        server.start(PATIENCE)
        check(server, done, folder / "audit.jsonl")
    finally:
        server.kill()


def check(server: Server, done: Pushes, file: Path) -> None:
    recorded = set(exported(server))
    assert done.acknowledged <= recorded
    url = f"{server.url}/v2/crash/app/manifests"
    with httpx.Client(headers={"accept": "*/*"}) as client:
        there = {(tag, digest) for tag, digest in done.sent if client.head(f"{url}/{digest}").status_code == 200}
    # What nobody heard of is there with its record, or not there and without.
    assert there == recorded
    assert len(done.sent) > len(done.acknowledged), "no push was cut"
    verified = subprocess.run(
        [str(DRIFT), "audit", "verify", *server.arguments()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout
    last = max(line["sequence"] for line in export(server))
    deadline = time.monotonic() + PATIENCE
    while (sequences := [json.loads(line)["sequence"] for line in file.read_text().splitlines()])[-1] < last:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sequences == list(range(1, len(sequences) + 1))


def export(server: Server) -> list[dict[str, object]]:
    answer = httpx.get(f"{server.url}/api/audit/export", timeout=PATIENCE)
    return [json.loads(line) for line in answer.text.splitlines()]


def exported(server: Server) -> list[tuple[str, str]]:
    found = []
    for record in export(server):
        resource = record["resource"]
        assert isinstance(resource, dict)
        if record["event_type"] == "ImagePushed":
            found.append((resource["tag"], resource["digest"]))
    return found


def test_no_push_is_without_its_record(tmp_path: Path) -> None:
    crash(tmp_path, 60, 3)


@pytest.mark.soak
def test_no_push_of_a_thousand_is_without_its_record(tmp_path: Path) -> None:
    crash(tmp_path, 1000, 20)
