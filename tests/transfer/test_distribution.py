"""`drift import distribution` on what a real distribution has stored: complete, again, cut short, damaged."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.image_layout import DOCKER, OCI, ImageLayout
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server
from tests.services.minio import Minio
from tests.tools import ROOT
from tests.transfer.distribution import PREFIX, Distribution
from tests.transfer.moves import Filled, assert_complete, assert_same, catalog, command, drift, fill

STORED = Path("docker/registry/v2")


def stored(data: Path, digest: str) -> Path:
    """Returns the file in which distribution keeps a blob or manifest."""
    algorithm, _, encoded = digest.partition(":")
    return data / STORED / "blobs" / algorithm / encoded[:2] / encoded / "data"


def test_everything_comes_along_beside_a_server(
    run: Programs, old: Distribution, filled: Filled, place: Path, tmp_path: Path
) -> None:
    with Server(place) as server:
        planned = drift("import", "distribution", old.data, "--dry-run", folder=place)
        assert catalog(run, server.host) == {}
        done = drift("import", "distribution", old.data, folder=place)
        assert (planned.code, done.code) == (0, 0)
        assert planned.copied() == done.copied()
        assert planned.counts["bytes"] == done.counts["bytes"] > 100_000
        assert done.counts["repositories"] == len(filled.tags) == 4
        assert done.counts["tags"]["copied"] == sum(map(len, filled.tags.values()))
        # What two repositories have is copied once.
        assert done.counts["blobs"]["there"] > 0
        assert_complete(run, old.address, server.host, filled, tmp_path / "pulled")

        again = drift("import", "distribution", old.data, folder=place)
        assert (again.code, again.copied(), again.counts["bytes"]) == (0, (0, 0, 0), 0)
        assert again.counts["tags"]["there"] == done.counts["tags"]["copied"]
        assert again.counts["manifests"]["there"] == done.counts["manifests"]["copied"]
    checked = subprocess.run(command("fsck", folder=place), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "bytes and records agree\n")


def test_the_folder_of_the_registry_itself_will_do(old: Distribution, filled: Filled, place: Path) -> None:
    done = drift("import", "distribution", old.data / STORED, "--dry-run", folder=place)
    assert (done.code, done.counts["repositories"]) == (0, len(filled.tags))


def test_a_folder_without_a_registry_is_an_error(place: Path, tmp_path: Path) -> None:
    done = drift("import", "distribution", tmp_path, folder=place)
    assert done.code == 1
    assert "distribution has stored nothing here" in done.errors


def test_from_a_bucket(run: Programs, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Minio() as minio:
        bucket = minio.new_bucket()
        with Distribution(minio, bucket) as old:
            filled = fill(run, old.address, tmp_path / "filled")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
            source = ("import", "distribution", f"s3://{bucket}/{PREFIX}", "--endpoint", minio.endpoint)
            done = drift(*source, folder=place)
            assert (done.code, done.counts["repositories"]) == (0, len(filled.tags))
            with Server(place) as server:
                assert_complete(run, old.address, server.host, filled, tmp_path / "pulled")
            again = drift(*source, folder=place)
            assert (again.code, again.copied()) == (0, (0, 0, 0))

            damaged = f"{PREFIX}/{stored(Path(), filled.untagged)}"
            minio.client.put_object(Bucket=bucket, Key=damaged, Body=b"{}")
            done = drift(*source, folder=tmp_path / "another")
            assert (done.code, done.failures()) == (1, {("manifest", f"s3://{bucket}/{damaged}")})


def test_what_a_kill_interrupts_goes_on(run: Programs, place: Path, tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path / "image")
    layout.tag(layout.add_image(30, layers=40, layer_size=2_000_000, compression="stored"))
    with Distribution() as old:
        RegistryApi(old.address).put_content("large", "v1", layout)
        kept = place / "data" / "blobs"
        with subprocess.Popen(
            command("import", "distribution", old.data, "--jobs", "1", folder=place),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while len(list(kept.glob("*/*/*"))) < 5:
                assert process.poll() is None
                time.sleep(0.001)
            process.kill()
        interrupted = len(list(kept.glob("*/*/*")))
        assert interrupted < 41
        done = drift("import", "distribution", old.data, folder=place)
        # The last one may have been there and not yet been recorded.
        assert 41 - interrupted <= done.counts["blobs"]["copied"] <= 41 - interrupted + 1
        assert (done.code, done.counts["blobs"]["copied"] + done.counts["blobs"]["there"]) == (0, 41)
        with Server(place) as server:
            assert_same(run, old.address, server.host, {"large": {"v1"}}, tmp_path / "pulled")


def test_damage_is_named_and_the_rest_goes_on(
    run: Programs, old: Distribution, filled: Filled, place: Path, tmp_path: Path
) -> None:
    data = tmp_path / "damaged"
    shutil.copytree(old.data, data)
    multi = RegistryApi(old.address)
    amd64, arm64 = (one["digest"] for one in multi.manifest("team/app", "v1").json()["manifests"])
    layers = [one["digest"] for one in multi.manifest("team/app", amd64).json()["layers"]]
    flipped, cut, lost = (stored(data, digest) for digest in layers)
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    os.truncate(cut, 1000)
    lost.unlink()
    stored(data, filled.untagged).write_bytes(b"{}")
    done = drift("import", "distribution", data, folder=place)
    assert done.code == 1
    found = done.failures()
    # Two repositories have them; of the second only that it has them, too.
    assert {("blob", str(file)) for file in (flipped, cut, lost)} < found
    assert {("manifest", str(stored(data, digest))) for digest in (filled.untagged, amd64, filled.subject)} < found
    assert ("tag", str(stored(data, filled.subject))) in found
    assert "is damaged: the bytes have another digest" in done.reasons("blob")
    assert "is not there" in done.reasons("blob")
    assert "is damaged: the bytes have the digest sha256:" in done.reasons("manifest")
    assert "its manifest could not be copied" in done.reasons("tag")
    with Server(place) as server:
        new = RegistryApi(server.host)
        assert_same(run, old.address, server.host, {"docker/list": {"v1"}, "copied": {"v1"}}, tmp_path / "pulled")
        assert new.manifest("team/app", arm64).status == 200
        assert {new.manifest_status("team/app", one) for one in (amd64, filled.untagged, "v1")} == {404}
    # Once it is mended, another run brings the rest.
    done = drift("import", "distribution", old.data, folder=place)
    assert (done.code, done.counts["tags"]["copied"]) == (0, 3)


def test_it_passes_the_rules_and_the_trail_of_a_push(run: Programs, place: Path, tmp_path: Path) -> None:
    settings = (
        "audit.enabled=true",
        f"audit.key_file={tmp_path / 'audit.key'}",
        'registry.immutable_tags=["release"]',
        "registry.max_upload_size_mb=1",
    )
    api_layouts = []
    for number in range(2):
        layout = ImageLayout(tmp_path / f"image-{number}")
        layout.tag(layout.add_image(40 + number, layers=1))
        api_layouts.append(layout)
    large = ImageLayout(tmp_path / "large")
    large.tag(large.add_image(50, layers=1, layer_size=2_000_000))
    with Distribution() as old:
        api = RegistryApi(old.address)
        api.put_content("app", "release", api_layouts[0])
        assert drift("import", "distribution", old.data, folder=place, settings=settings).code == 0
        api.put_content("app", "release", api_layouts[1])
        api.put_content("app", "next", api_layouts[1])
        api.put_content("app", "large", large)
        done = drift("import", "distribution", old.data, folder=place, settings=settings)
    names = {(failure["kind"], failure["name"]) for failure in done.counts["failures"]}
    layer = json.loads(large.read(large.root()))["layers"][0]["digest"]
    assert names == {("tag", "release"), ("blob", layer), ("manifest", large.root()["digest"]), ("tag", "large")}
    assert "immutable" in done.reasons("tag")
    assert "larger than this registry accepts" in done.reasons("blob")
    assert done.counts["tags"]["copied"] == 1
    with Server(place, *settings) as server:
        new = RegistryApi(server.host)
        assert new.manifest("app", "release").body == api_layouts[0].read(api_layouts[0].root())
        assert new.manifest("app", "next").body == api_layouts[1].read(api_layouts[1].root())
    listed = subprocess.run(
        command("audit", "list", "--json", folder=place, settings=settings), cwd=ROOT, capture_output=True, check=True
    )
    events = [json.loads(line) for line in listed.stdout.splitlines()]
    pushed = {event["resource"].get("tag") for event in events if event["event_type"] == "ImagePushed"}
    assert pushed == {"release", "next"}
    assert run("id", "-un").text in {event["user"].get("username") for event in events}


def test_the_media_type_is_that_of_the_content(place: Path, tmp_path: Path) -> None:
    with Distribution() as old:
        api = RegistryApi(old.address)
        for types, name in ((OCI, "oci"), (DOCKER, "docker")):
            layout = ImageLayout(tmp_path / name)
            layout.tag(layout.add_multi_platform(60, types))
            api.put_content(name, "v1", layout)
        # Only the OCI forms may say nothing of themselves.
        index = api.manifest("oci", "v1").json()
        image = api.manifest("oci", index["manifests"][0]["digest"]).json()
        for tag, document, media_type in (("bare", image, OCI.manifest), ("bare-index", index, OCI.index)):
            del document["mediaType"]
            api.put_manifest("oci", tag, json.dumps(document).encode(), media_type)
        assert drift("import", "distribution", old.data, folder=place).code == 0
        with Server(place) as server:
            new = RegistryApi(server.host)
            for name, tag in (("oci", "v1"), ("docker", "v1"), ("oci", "bare"), ("oci", "bare-index")):
                found = [one.manifest(name, tag) for one in (api, new)]
                assert found[0].body == found[1].body
                assert found[0].headers["content-type"] == found[1].headers["content-type"]
