"""A real server on MinIO: what was pulled once is there while MinIO is not, and nobody gets what is deleted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.clients.programs import Programs
from tests.faults.inspection import blob_file, errors_in_log, eventually, fsck, refused
from tests.oci.content import Blob, image, unique_blob
from tests.server import Server
from tests.services.minio import Minio

MIB = 1 << 20

LAYER = 'storage.layers=["cached"]'


def push(server: Server, blob: Blob, repository: str = "app") -> None:
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    answer = httpx.post(url, content=blob.content, headers={"content-type": "application/octet-stream"}, timeout=60)
    assert answer.status_code == 201, answer.text


def url_of(server: Server, blob: Blob) -> str:
    return f"{server.url}/v2/app/blobs/{blob.digest}"


def pull(server: Server, blob: Blob) -> None:
    answer = httpx.get(url_of(server, blob), timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.content == blob.content


def copies(server: Server) -> dict[str, Path]:
    places = (server.folder / "data/cached/blobs").glob("*/*/*")
    return {f"{path.parts[-3]}:{path.name}": path for path in places}


def half_made(server: Server) -> list[Path]:
    return list((server.folder / "data/cached/making").iterdir())


def has_copies(server: Server, *blobs: Blob) -> None:
    eventually(lambda: copies(server).keys() >= {blob.digest for blob in blobs}, "there are copies")


def measured(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines) if "drift_cached" in name}


@pytest.fixture
def on_minio(minio: Minio, tmp_path: Path) -> Iterator[Server]:
    """Yields a server that is not started."""
    settings = [*minio.settings(minio.new_bucket()), "storage.s3.retry_seconds=0", LAYER, "auth.mode=none"]
    server = Server(tmp_path / "server", *settings, "registry.restore_hours=0", "registry.lease_seconds=1")
    yield server
    if server.process is not None:
        server.kill()


def test_pulls_while_the_store_is_down(on_minio: Server, minio: Minio, tmp_path: Path) -> None:
    """By whatever a client asks for, from every worker and after a restart; of an image by real clients, too."""
    server, blob, other = on_minio, unique_blob(9 * MIB + 5), unique_blob(1000)
    run = Programs(tmp_path / "home")
    layer, config = unique_blob(3 * MIB), Blob(b'{"architecture":"amd64","os":"linux"}')
    reference = f"{server.host}/app:v1"
    copy = "skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}"
    with server:
        for one in (blob, other, layer, config):
            push(server, one)
        manifest = image(config, layer)
        url = f"{server.url}/v2/app/manifests/v1"
        headers = {"content-type": manifest.media_type}
        assert httpx.put(url, content=manifest.content, headers=headers).status_code == 201
        pull(server, blob)
        run(*copy, f"dir:{tmp_path / 'first'}")
        has_copies(server, blob, layer, config)
    try:
        with server:
            minio.stop()
            for _ in range(8):
                pull(server, blob)
            head = httpx.head(url_of(server, blob))
            assert (head.status_code, head.headers["content-length"]) == (200, str(blob.size))
            part = httpx.get(url_of(server, blob), headers={"range": "bytes=1000000-5000000"})
            assert (part.status_code, part.content) == (206, blob.content[1000000:5000001])
            assert httpx.get(url_of(server, other)).status_code == 503
            run(*copy, f"dir:{tmp_path / 'second'}")
            run("crane", "pull", "--insecure", "--format=oci", reference, tmp_path / "layout")
            for folder in (tmp_path / "second", tmp_path / "layout/blobs/sha256"):
                assert (folder / layer.digest.partition(":")[2]).read_bytes() == layer.content
            minio.start()
            pull(server, other)
    finally:
        if not minio.answers():
            minio.start()


def test_deleted(on_minio: Server) -> None:
    """At once nobody gets it; then the copy goes with the blob."""
    blob, kept = unique_blob(2 * MIB), unique_blob(1000)
    with on_minio as server:
        for one in (blob, kept):
            push(server, one)
            pull(server, one)
        has_copies(server, blob, kept)
        assert httpx.delete(url_of(server, blob)).status_code == 202
        for _ in range(4):
            assert httpx.get(url_of(server, blob)).status_code == 404
        eventually(lambda: blob.digest not in copies(server), "the copy is gone")
        assert copies(server).keys() == {kept.digest}
        assert fsck(server).clean


def test_many_pulls_stay_within_the_bound(on_minio: Server) -> None:
    """Of many clients at once, by two workers; and the metrics add up over both."""
    on_minio.settings += [f"storage.cached.max_gb={8 / 1024}"]
    blobs = [unique_blob(MIB + number) for number in range(12)]
    with on_minio as server, ThreadPoolExecutor(8) as clients:
        for blob in blobs:
            push(server, blob)
        for pulls in [clients.submit(pull, server, blob) for blob in blobs * 4]:
            pulls.result()
            assert sum(path.stat().st_size for path in copies(server).values() if path.exists()) <= 8 * MIB
        eventually(lambda: not half_made(server), "no copy is being made")
        assert 4 <= len(copies(server)) <= 7
        found = measured(server)
        held = sum(path.stat().st_size for path in copies(server).values())
        assert found["drift_cached_held_bytes"] == held
        assert found["drift_cached_hits_total"] + found["drift_cached_misses_total"] == 48
        assert found["drift_cached_copies_total"] - found["drift_cached_evictions_total"] == len(copies(server))
        assert found["drift_cached_failures_total"] == 0
        assert errors_in_log(server) == []


def test_killed_while_a_copy_is_made(on_minio: Server) -> None:
    blob = unique_blob(24 * MIB)
    with on_minio as server:
        push(server, blob)
        with httpx.stream("GET", url_of(server, blob), timeout=60) as answer:
            chunks = answer.iter_raw(MIB)
            next(chunks)
            eventually(lambda: [path for path in half_made(server) if path.stat().st_size] != [], "a half copy")
            server.kill()
        assert not copies(server)
        assert half_made(server)
    with on_minio as server:
        assert not half_made(server)
        pull(server, blob)
        has_copies(server, blob)
        assert copies(server)[blob.digest].read_bytes() == blob.content


def test_scrub_finds_what_is_damaged_behind_a_copy(tmp_path: Path) -> None:
    blob = unique_blob(100_000)
    with Server(tmp_path, LAYER, "auth.mode=none") as server:
        push(server, blob)
        pull(server, blob)
        has_copies(server, blob)
    blob_file(server.folder / "data", blob.digest).write_bytes(b"?" + blob.content[1:])
    # Its first look at everything; the next one would be much later.
    with Server(tmp_path, LAYER, "auth.mode=none", "scrub.enabled=true", "scrub.rate_mb_per_second=0") as server:
        eventually(lambda: httpx.get(url_of(server, blob)).status_code == 404, "it is in quarantine")


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused(Server(tmp_path, LAYER, "auth.mode=none", f"storage.cached.path={tmp_path / 'file'}"))
    assert f"storage.cached.path: {tmp_path / 'file' / 'cached'} cannot be used" in message
