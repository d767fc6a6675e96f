"""A real server with the layer: clients get what was pushed, whatever lies packed, is killed, collected or damaged."""

import io
import json
import os
import random
import re
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.programs import Programs
from tests.faults.inspection import PATIENCE, blob_file, blob_files, errors_in_log, eventually, fsck, uploads_on_disk
from tests.oci.content import Blob, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT, tool

from .test_reading import text

MIB = 1 << 20

LAYER = 'storage.layers=["packed"]'

AT_ONCE = (
    "auth.mode=none",
    LAYER,
    "storage.packed.min_age_minutes=0",
    "storage.packed.rate_mb_per_second=0",
    "storage.packed.keep_original_minutes=0",
    "storage.packed.interval_minutes=0.01",
)

BY_HAND = ("auth.mode=none", LAYER, "storage.packed.pack=false", "storage.packed.keep_original_minutes=0")


def large(mebibytes: int) -> Blob:
    """Returns a blob that compresses, no two pieces of which are the same."""
    block = text(MIB)
    return Blob(b"".join(number.to_bytes(8, "big") + block[8:] for number in range(mebibytes)))


def push(server: Server, blob: Blob, repository: str = "app") -> None:
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    answer = httpx.post(url, content=blob.content, headers={"content-type": "application/octet-stream"}, timeout=60)
    assert answer.status_code == 201, answer.text


def url_of(server: Server, blob: Blob) -> str:
    return f"{server.url}/v2/app/blobs/{blob.digest}"


def drift(server: Server, *words: str, code: int = 0) -> str:
    command = [str(DRIFT), *words, *server.arguments()]
    wide = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def lie_packed(server: Server, *blobs: Blob) -> bool:
    """Says whether none of the originals is there any more."""
    return not any(blob_file(server.folder / "data", blob.digest).exists() for blob in blobs)


def states_of(data: Path, blob: Blob) -> list[str]:
    with closing(sqlite3.connect(data / "drift.db")) as db:
        query = "SELECT state FROM storage_packed__forms WHERE digest = ?"
        return [state for (state,) in db.execute(query, [blob.digest])]


def coded(client: httpx.Client, server: Server, blob: Blob, accepted: str) -> tuple[httpx.Response, bytes]:
    """Returns an answer, and its bytes as they were sent."""
    with client.stream("GET", url_of(server, blob), headers={"accept-encoding": accepted}) as answer:
        return answer, b"".join(answer.iter_raw())


def layer_of(content: bytes) -> Blob:
    """Returns an archive that is not compressed, with one file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return Blob(stream.getvalue())


@pytest.fixture(scope="module")
def blobs() -> dict[str, Blob]:
    layer = layer_of(text(2_000_000, 1))
    config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest]}
    return {
        "large": large(64),
        "layer": layer,
        "config": Blob(json.dumps(config).encode()),
        "noise": unique_blob(3_000_000),
        "small": Blob(text(20_000, 2)),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, blobs: dict[str, Blob]) -> Iterator[Server]:
    """Yields a server in which everything lies packed that gains by it."""
    with Server(tmp_path_factory.mktemp("packed"), *AT_ONCE, workers=1) as server:
        for blob in blobs.values():
            push(server, blob)
        manifest = image(blobs["config"], blobs["layer"])
        headers = {"content-type": manifest.media_type}
        url = f"{server.url}/v2/app/manifests/v1"
        assert httpx.put(url, content=manifest.content, headers=headers).status_code == 201
        eventually(lambda: lie_packed(server, *(blobs[name] for name in ("large", "layer", "small"))), "all is packed")
        yield server
        assert errors_in_log(server) == []


def test_every_byte_is_what_was_pushed(server: Server, blobs: dict[str, Blob]) -> None:
    source = random.Random(3)
    with httpx.Client(timeout=60) as client:
        for blob in blobs.values():
            answer = client.get(url_of(server, blob), headers={"accept-encoding": "identity"})
            assert answer.content == blob.content
            assert answer.headers["etag"] == f'"{blob.digest}"'
            head = client.head(url_of(server, blob))
            assert (head.status_code, int(head.headers["content-length"])) == (200, blob.size)
        for _ in range(200):
            blob = source.choice([blobs["large"], blobs["layer"]])
            start = source.randrange(blob.size)
            stop = min(blob.size, start + source.choice([1, 1000, 300_000, 2_000_000]))
            answer = client.get(url_of(server, blob), headers={"range": f"bytes={start}-{stop - 1}"})
            assert answer.status_code == 206
            assert "content-encoding" not in answer.headers
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{blob.size}"
            assert answer.content == blob.content[start:stop]


def test_who_takes_zstd_gets_it_as_it_lies(server: Server, blobs: dict[str, Blob]) -> None:
    blob = blobs["large"]
    with httpx.Client(timeout=60) as client:
        answer, sent = coded(client, server, blob, "zstd;q=1.0, gzip;q=0.8")
        assert answer.headers["content-encoding"] == "zstd"
        assert int(answer.headers["content-length"]) == len(sent) < blob.size / 2
        assert answer.headers["etag"] == f'W/"{blob.digest}"'
        assert answer.headers["docker-content-digest"] == blob.digest
        assert answer.headers["vary"].lower() == "accept-encoding"
        assert "accept-ranges" not in answer.headers
        # The index is behind it, and in that the salt: nobody may be able to push the bytes of a packed blob.
        assert not any(file.read_bytes() == sent for file in blob_files(server.folder / "data"))
        unpacked = subprocess.run([tool("zstd"), "-dc"], input=sent, capture_output=True, check=True).stdout
        assert unpacked == blob.content
        for accepted in ("gzip", "br, gzip", "identity", "*", "zstd;q=0"):
            answer, sent = coded(client, server, blob, accepted)
            assert "content-encoding" not in answer.headers, accepted
            assert sent == blob.content, accepted
            assert answer.headers["vary"].lower() == "accept-encoding"
        answer, sent = coded(client, server, blobs["noise"], "zstd")
        assert "content-encoding" not in answer.headers
        assert sent == blobs["noise"].content
    curl = [tool("curl"), "--silent", "--fail", "--compressed", url_of(server, blob)]
    assert subprocess.run(curl, capture_output=True, check=True).stdout == blob.content


def test_clients_pull_an_image(server: Server, blobs: dict[str, Blob], tmp_path: Path) -> None:
    run = Programs(tmp_path / "home")
    reference = f"{server.host}/app:v1"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{tmp_path / 'image'}")
    layer = (tmp_path / "image" / blobs["layer"].digest.partition(":")[2]).read_bytes()
    assert layer == blobs["layer"].content
    run("crane", "pull", "--insecure", "--format=oci", reference, tmp_path / "layout")
    assert (tmp_path / "layout/blobs/sha256" / blobs["layer"].digest.partition(":")[2]).read_bytes() == blobs[
        "layer"
    ].content


def test_what_is_said_of_it(server: Server, blobs: dict[str, Blob]) -> None:
    assert fsck(server).clean
    status = json.loads(drift(server, "packed", "status", "--json"))
    gained = [blobs[name] for name in ("large", "layer", "small")]
    assert (status["blobs"], status["size"]) == (3, sum(blob.size for blob in gained))
    assert status["packed_size"] < status["size"] / 2
    assert status["skipped"] == {"gains nothing": 1}
    assert "Saved" in drift(server, "packed", "status")


def test_killed_while_it_packs(tmp_path: Path) -> None:
    slowly = [*AT_ONCE[:3], *AT_ONCE[4:], "storage.packed.rate_mb_per_second=4"]
    blob, others = large(16), [Blob(text(100_000, seed)) for seed in range(3)]
    data = tmp_path / "data"
    with Server(tmp_path, *slowly, workers=1) as server:
        for one in (*others, blob):
            push(server, one)
        eventually(lambda: states_of(data, blob) == ["making"], "it packs the large one")
        server.kill()
    # A minute later the dead process packs the blob no more, nor has it the background work.
    assert states_of(data, blob) == ["making"]
    assert uploads_on_disk(data) != set()
    with closing(sqlite3.connect(data / "drift.db")) as db, db:
        db.execute("UPDATE storage_packed__forms SET changed_at = changed_at - 100 WHERE state = 'making'")
        db.execute("UPDATE leases SET expires_at = 0")
    with Server(tmp_path, *AT_ONCE, workers=1) as server:
        for one in (*others, blob):
            assert httpx.get(url_of(server, one)).content == one.content
        eventually(lambda: lie_packed(server, blob, *others), "what was begun is done")
        for one in (*others, blob):
            assert httpx.get(url_of(server, one)).content == one.content
        assert fsck(server).clean
        assert uploads_on_disk(data) == set()
        assert len(blob_files(data)) == 4


def test_collected(tmp_path: Path) -> None:
    lease = 2.0
    settings = (
        "garbage_collector.enabled=true",
        "garbage_collector.grace_period_hours=0",
        "garbage_collector.interval_hours=0.0001",
        "garbage_collector.max_share=1.0",
        "garbage_collector.removals_per_second=0",
        "garbage_collector.dry_first=false",
        "registry.restore_hours=0",
        "registry.min_age_days=0",
        "registry.immutable_tags=[]",
        f"registry.lease_seconds={lease}",
    )
    layers = [Blob(text(100_000, seed)) for seed in range(3)]
    config = Blob(b"{}")
    data = tmp_path / "data"
    with Server(tmp_path, *AT_ONCE, *settings, workers=1) as server:
        for blob in (config, *layers):
            push(server, blob)
        manifest = image(config, *layers)
        url = f"{server.url}/v2/app/manifests/"
        headers = {"content-type": manifest.media_type}
        assert httpx.put(url + "v1", content=manifest.content, headers=headers).status_code == 201
        eventually(lambda: lie_packed(server, *layers), "all is packed")
        time.sleep(2 * lease)
        assert [httpx.get(url_of(server, blob)).content for blob in layers] == [blob.content for blob in layers]
        assert httpx.delete(url + manifest.digest).status_code == 202
        eventually(lambda: blob_files(data) == [], "nothing of it is left")
        assert fsck(server).clean
        assert errors_in_log(server) == []


def test_by_hand_and_without_the_layer(tmp_path: Path) -> None:
    """Packs by command, finds a flipped byte, mends it by a push, and leaves a registry that needs no layer."""
    blobs = [Blob(text(300_000, seed)) for seed in range(3)]
    data = tmp_path / "data"
    young = ("--set", "storage.packed.min_age_minutes=0")
    with Server(tmp_path, *BY_HAND, workers=1) as server:
        for blob in blobs:
            push(server, blob)
        before = sum(blob.size for blob in blobs)
        said = drift(server, "packed", "run", *young)
        found = re.fullmatch(r"packed 3 of 3 blobs that were looked at: (\d+) bytes are now (\d+)\n", said)
        assert found is not None
        assert int(found[1]) == before
        assert lie_packed(server, *blobs)
        assert sum(file.stat().st_size for file in blob_files(data)) == int(found[2])

        with closing(sqlite3.connect(data / "drift.db")) as db:
            query = "SELECT digest, packed FROM storage_packed__forms WHERE state = 'packed'"
            packed: dict[str, str] = dict(db.execute(query).fetchall())
        broken = blob_file(data, packed[blobs[0].digest])
        raw = bytearray(broken.read_bytes())
        raw[len(raw) // 2] ^= 1
        broken.chmod(0o644)
        broken.write_bytes(raw)
        scrub = ("scrub", "run", "--rate", "0", "--set", "scrub.enabled=true")
        assert blobs[0].digest in drift(server, *scrub, code=1)
        assert httpx.get(url_of(server, blobs[0])).status_code == 404
        assert httpx.get(url_of(server, blobs[1])).content == blobs[1].content
        push(server, blobs[0])
        assert httpx.get(url_of(server, blobs[0])).content == blobs[0].content
        drift(server, *scrub)
        # The first takes the damaged form away, the second packs what was pushed.
        assert "packed 0 of 0" in drift(server, "packed", "run", *young)
        assert "packed 1 of 1" in drift(server, "packed", "run", *young)
        drift(server, *scrub)

        assert drift(server, "packed", "unpack") == "brought back 3 blobs; 0 are still packed\n"
        assert fsck(server).clean
    with Server(tmp_path, "auth.mode=none", workers=1) as server:
        for blob in blobs:
            assert httpx.get(url_of(server, blob)).content == blob.content
        assert {file.name for file in blob_files(data)} == {blob.digest.partition(":")[2] for blob in blobs}
        assert fsck(server).clean
