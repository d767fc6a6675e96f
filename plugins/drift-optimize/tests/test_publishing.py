"""What is published of an image, by which policy, and that nobody's push or promise is lost by it."""

import gzip
import itertools
import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from drift_optimize.images import FORM, ZSTD_INSTANCE

from drift_core.api import LocalRegistry
from tests.clients.programs import Programs
from tests.clients.test_podman import ContainerTools
from tests.faults.inspection import PATIENCE, eventually
from tests.tools import unavailable

from .beside import beside, drift_optimize, ran, worked
from .corpus import Tar
from .pushing import (
    DOCKER_GZIP,
    OCI,
    OCI_GZIP,
    OCI_ZSTD,
    Blob,
    digest_of,
    put_image,
    put_manifest,
)
from .registry import Optimized, diff_ids, run, unpacked

ON, ZSTD = "optimization.enabled=true", 'optimization.forms=["zstd"]'
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REPLACE = "optimization.preserve_original=false"
_serial = itertools.count()


def publish(*places: str) -> str:
    return f"optimization.publish={json.dumps(places)}"


def forms(*names: str) -> str:
    return f"optimization.forms={json.dumps(names)}"


def words(seed: int, size: int) -> bytes:
    chance = random.Random(seed)
    known = [chance.randbytes(3).hex().encode() for _ in range(300)]
    return b" ".join(chance.choices(known, k=size // 7))


def tar(size: int = 60_000) -> bytes:
    """Returns the tar of a layer that nobody has pushed yet."""
    serial = next(_serial)
    return Tar().dir("opt/").file(f"opt/file-{serial}", words(serial, size)).end()


def zipped(content: bytes, level: int = 0, media_type: str = OCI_GZIP) -> Blob:
    """Returns a layer that by itself is not packed at all, so that any form of it is smaller."""
    return Blob(media_type, gzip.compress(content, level, mtime=0), digest_of(content))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    """A server that makes no forms itself: commands do, each with a policy of its own."""
    with Optimized(tmp_path_factory.mktemp("shelf"), "optimization.enabled=false", "server.workers=1") as registry:
        yield registry


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    return "".join(char if char.isalnum() else "-" for char in request.node.name.lower()).strip("-").replace("--", "-")


def put(shelf: Optimized, repository: str, tag: str = "v1", *layers: Blob, **more: Any) -> str:
    return put_image(shelf, repository, tag, layers or [zipped(tar()), zipped(tar())], **more)


def assert_same_image(shelf: Optimized, repository: str, original: dict[str, Any], made: dict[str, Any]) -> None:
    """Another form of the same layers, and all else as it was."""
    assert made["config"]["digest"] == original["config"]["digest"]
    assert shelf.tars(repository, made) == shelf.tars(repository, original)
    sums = [digest_of(one) for one in shelf.tars(repository, made)]
    assert sums == diff_ids(shelf.blob(repository, made["config"]["digest"]))
    assert {layer["digest"] for layer in made["layers"]}.isdisjoint(layer["digest"] for layer in original["layers"])


def test_as_a_referrer(shelf: Optimized, repository: str) -> None:
    digest = put(shelf, repository, annotations={"org.example.kept": "yes"})
    job = ran(shelf, f"{repository}:v1", ON, ZSTD, publish("referrer"))
    original = shelf.manifest(repository, digest)
    assert (job["state"], job["digest"], shelf.digest(repository, "v1")) == ("optimized", digest, digest)
    assert shelf.tags(repository) == ["v1"]
    (referrer,) = shelf.referrers(repository, digest)
    assert referrer["annotations"] == {"org.example.kept": "yes", FORM: "zstd"}
    made = shelf.manifest(repository, referrer["digest"])
    assert made["annotations"] == {"org.example.kept": "yes", FORM: "zstd"}
    assert made["subject"]["digest"] == digest
    assert [layer["mediaType"] for layer in made["layers"]] == [OCI_ZSTD] * 2
    assert_same_image(shelf, repository, original, made)
    saved = sum(layer["size"] for layer in original["layers"]) - sum(layer["size"] for layer in made["layers"])
    assert job["saved"] == saved > 0


def test_as_tags(shelf: Optimized, repository: str) -> None:
    """A client of eStargz finds the table of contents beside the tag that it pulls."""
    digest = put(shelf, repository)
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "estargz"), publish("tag"))
    assert shelf.tags(repository) == ["v1", "v1-estargz", "v1-estargz-esgztoc", "v1-zstd"]
    assert shelf.referrers(repository, digest) == []
    for tag in ("v1-zstd", "v1-estargz"):
        made = shelf.manifest(repository, tag)
        assert "subject" not in made
        assert_same_image(shelf, repository, shelf.manifest(repository, "v1"), made)
    tables = shelf.manifest(repository, "v1-estargz-esgztoc")["layers"]
    named = {table["annotations"]["containerd.io/snapshot/stargz/layer.digest"] for table in tables}
    assert named == {layer["digest"] for layer in shelf.manifest(repository, "v1-estargz")["layers"]}


def test_a_tag_with_no_room_for_the_form_gets_none(shelf: Optimized, repository: str) -> None:
    tag = "t" * 125
    digest = put(shelf, repository, tag)
    ran(shelf, f"{repository}:{tag}", ON, ZSTD, publish("tag", "referrer"))
    assert shelf.tags(repository) == [tag]
    assert len(shelf.referrers(repository, digest)) == 1


def test_as_an_index(shelf: Optimized, repository: str) -> None:
    """The original first: a client that knows no zstd takes the first of its platform."""
    digest = put(shelf, repository)
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "gzip"), publish("index"))
    assert shelf.tags(repository) == ["v1", "v1-index"]
    assert shelf.digest(repository, "v1") == digest
    assert shelf.referrers(repository, digest) == []
    index = shelf.manifest(repository, "v1-index")
    assert (index["mediaType"], "subject" in index) == (OCI_INDEX, False)
    first, zstd, again = index["manifests"]
    assert {one["platform"]["architecture"] for one in index["manifests"]} == {"amd64"}
    assert (first["digest"], first.get("annotations")) == (digest, None)
    assert zstd["annotations"] == {FORM: "zstd", "io.github.containers.compression.zstd": "true"}
    assert again["annotations"] == {FORM: "gzip"}
    for entry in (zstd, again):
        made = shelf.manifest(repository, entry["digest"])
        assert_same_image(shelf, repository, shelf.manifest(repository, digest), made)


@pytest.mark.parametrize("place", ["referrer", "tag", "index"])
def test_the_original_retires(shelf: Optimized, repository: str, place: str) -> None:
    """Its tag names the better form; by its digest it is what it was."""
    digest = put(shelf, repository)
    before = shelf.client.get(f"/v2/{repository}/manifests/{digest}").content
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "gzip"), publish(place), REPLACE)
    moved = shelf.manifest(repository, "v1")
    # With the original as its subject it would go with it.
    assert "subject" not in moved
    if place == "index":
        assert [entry["annotations"][FORM] for entry in moved["manifests"][1:]] == ["zstd", "gzip"]
        assert shelf.tags(repository) == ["v1"]
    else:
        assert moved["annotations"][FORM] == "zstd"
    assert shelf.client.get(f"/v2/{repository}/manifests/{digest}").content == before
    for layer in shelf.manifest(repository, digest)["layers"]:
        assert digest_of(shelf.blob(repository, layer["digest"])) == layer["digest"]


def test_by_digest_no_tag_is_touched(shelf: Optimized, repository: str) -> None:
    digest = put(shelf, repository)
    wanted = f"{repository}@{digest}"
    for settings, state, count in (((REPLACE,), "skipped", 0), ((), "optimized", 1)):
        job = ran(shelf, wanted, ON, ZSTD, publish("tag", "index", "referrer"), *settings)
        assert (job["state"], job["tag"]) == (state, None)
        assert (shelf.tags(repository), shelf.digest(repository, "v1")) == (["v1"], digest)
        assert len(shelf.referrers(repository, digest)) == count
    job = ran(shelf, wanted, ON, ZSTD, publish("tag"))
    assert (job["state"], "no tag names it" in job["message"]) == ("skipped", True)


class Meanwhile:
    """A registry in which something happens right after it was asked, for the ``nth`` time, what a tag names."""

    def __init__(self, registry: LocalRegistry, nth: int, happens: Callable[[], Any]) -> None:
        self._registry = registry
        self._left = nth
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    async def tagged(self, repository: str, tags: list[str]) -> dict[str, Any]:
        found = await self._registry.tagged(repository, tags)
        self._left -= 1
        if not self._left:
            self._happens()
        return dict(found)


@pytest.mark.parametrize("place", ["referrer", "index"])
@pytest.mark.parametrize(("nth", "state"), [(1, "optimized"), (2, "failed")], ids=["before", "at the last moment"])
async def test_a_push_meanwhile_stays(shelf: Optimized, repository: str, place: str, nth: int, state: str) -> None:
    """The image that was worked on is not what the tag means any more, at whichever moment somebody moves it."""
    put(shelf, repository)
    pushed: list[str] = []
    async with beside(shelf, ON, ZSTD, publish(place), REPLACE) as (own, feature):
        moved: Any = Meanwhile(own, nth, lambda: pushed.append(put(shelf, repository)))
        job = await worked(feature, moved, repository, "v1")
    assert (job.state, [shelf.digest(repository, "v1")]) == (state, pushed), job
    assert ("the tag is not what" in job.message) == (state == "failed")
    assert shelf.tags(repository) == ["v1"]


async def test_what_is_measured(shelf: Optimized, repository: str) -> None:
    put(shelf, repository)
    broken = Blob(OCI_GZIP, zipped(tar()).content[:-9], digest_of(b""))
    put(shelf, repository, "broken", broken)
    async with beside(shelf, ON, ZSTD) as (own, feature):
        jobs = [await worked(feature, own, repository, tag) for tag in ("v1", "broken")]
        measured = feature._measures
        states = {state: measured.jobs.labels(state)._value.get() for state in ("optimized", "failed")}
        assert states == {"optimized": 1, "failed": 1}
        assert measured.saved._value.get() == jobs[0].saved > 0
        assert measured.read._value.get() >= sum(layer["size"] for layer in shelf.manifest(repository, "v1")["layers"])


def test_an_immutable_tag_is_not_moved(shelf: Optimized, repository: str) -> None:
    digest = put(shelf, repository, "release")
    settings = (ON, ZSTD, 'registry.immutable_tags=["release"]')
    job = ran(shelf, f"{repository}:release", *settings, REPLACE, code=1)
    assert (job["state"], job["saved"]) == ("failed", 0)
    assert "immutable" in job["message"]
    assert shelf.digest(repository, "release") == digest
    assert ran(shelf, f"{repository}:release", *settings)["state"] == "optimized"
    assert shelf.digest(repository, "release") == digest


def put_index(shelf: Optimized, repository: str, tag: str) -> tuple[str, list[dict[str, Any]]]:
    """Pushes an index of two platforms and of what is no image, and returns its digest and entries."""
    entries = []
    for number, architecture in enumerate(("amd64", "arm64")):
        put(shelf, repository, f"part-{number}")
        manifest = shelf.client.get(f"/v2/{repository}/manifests/part-{number}", headers={"accept": "*/*"})
        entry = {"mediaType": manifest.headers["content-type"], "digest": manifest.headers["docker-content-digest"]}
        platform = {"architecture": architecture, "os": "linux"}
        entries.append({**entry, "size": len(manifest.content), "platform": platform})
    put_image(shelf, repository, "part-2", [Blob("application/x-sbom", b"text", digest_of(b"text"))])
    sbom = shelf.client.get(f"/v2/{repository}/manifests/part-2", headers={"accept": "*/*"})
    entries.append({**entries[0], "digest": sbom.headers["docker-content-digest"], "size": len(sbom.content)})
    entries[2]["platform"] = {"architecture": "unknown", "os": "unknown"}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": {"kept": "yes"}}
    answer = put_manifest(shelf, repository, tag, document, OCI_INDEX)
    assert answer.status_code == 201, answer.text
    return answer.headers["docker-content-digest"], entries


def test_an_index_gets_an_index_of_each_form(shelf: Optimized, repository: str) -> None:
    digest, entries = put_index(shelf, repository, "v1")
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "gzip"), publish("referrer", "tag", "index"))
    assert shelf.digest(repository, "v1") == digest
    indexes = {one["digest"] for one in shelf.referrers(repository, digest)}
    assert {shelf.digest(repository, f"v1-{form}") for form in ("zstd", "gzip", "index")} == indexes
    for form in ("zstd", "gzip"):
        index = shelf.manifest(repository, f"v1-{form}")
        assert (index["annotations"]["kept"], index["subject"]["digest"]) == ("yes", digest)
        assert [one["platform"] for one in index["manifests"]] == [one["platform"] for one in entries]
        # What is no image is there as it was.
        assert index["manifests"][2]["digest"] == entries[2]["digest"]
        for entry, original in zip(index["manifests"][:2], entries[:2], strict=True):
            made = shelf.manifest(repository, entry["digest"])
            assert_same_image(shelf, repository, shelf.manifest(repository, original["digest"]), made)
            assert entry["annotations"] == {FORM: form, **(ZSTD_INSTANCE if form == "zstd" else {})}
    every = shelf.manifest(repository, "v1-index")["manifests"]
    assert [one["digest"] for one in every[::3][:2]] == [one["digest"] for one in entries[:2]]
    assert [one["platform"]["architecture"] for one in every] == ["amd64"] * 3 + ["arm64"] * 3 + ["unknown"]


def test_an_image_of_docker_becomes_an_oci_one(shelf: Optimized, repository: str) -> None:
    layers = [zipped(tar(), media_type=DOCKER_GZIP) for _ in range(2)]
    digest = put(shelf, repository, "v1", *layers, docker=True)
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "gzip"), publish("tag"))
    original = shelf.manifest(repository, digest)
    for form, media_type in (("zstd", OCI_ZSTD), ("gzip", OCI_GZIP)):
        made = shelf.manifest(repository, f"v1-{form}")
        assert made["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert made["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
        assert {layer["mediaType"] for layer in made["layers"]} == {media_type}
        assert_same_image(shelf, repository, original, made)


def everything(shelf: Optimized, repository: str, digest: str) -> Any:
    tags = {tag: shelf.digest(repository, tag) for tag in shelf.tags(repository)}
    return tags, shelf.referrers(repository, digest)


def sums(shelf: Optimized) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(drift_optimize(shelf, "status", "--json", settings=(ON,)).stdout)["stats"]
    return found


def test_a_second_time_changes_nothing(shelf: Optimized, repository: str) -> None:
    digest = put(shelf, repository)
    settings = (ON, forms("zstd", "zstd-chunked"), publish("referrer", "tag", "index"))
    first = ran(shelf, f"{repository}:v1", *settings)
    before, layers = everything(shelf, repository, digest), sums(shelf)
    again = ran(shelf, f"{repository}:v1", *settings)
    assert (again["state"], again["saved"]) == (first["state"], first["saved"]) == ("optimized", first["saved"])
    assert (everything(shelf, repository, digest), sums(shelf)) == (before, layers)


def moments(shelf: Optimized) -> dict[tuple[str, str], float]:
    """Returns when each form of each layer was made, or refused."""
    with sqlite3.connect(shelf.folder / "server/data/drift.db", timeout=PATIENCE) as database:
        rows = database.execute("SELECT digest, form, created_at FROM optimize__layers").fetchall()
    database.close()
    return {(digest, form): moment for digest, form, moment in rows}


def test_a_layer_of_two_repositories_is_made_once(shelf: Optimized, repository: str) -> None:
    layers = [zipped(tar()), zipped(tar())]
    made = []
    for number, name in enumerate((f"{repository}/one", f"{repository}/two")):
        before = moments(shelf)
        digest = put(shelf, name, "v1", *layers, annotations={"number": str(number)})
        ran(shelf, f"{name}:v1", ON, ZSTD)
        (referrer,) = shelf.referrers(name, digest)
        made.append([layer["digest"] for layer in shelf.manifest(name, referrer["digest"])["layers"]])
        assert len(moments(shelf).items() - before.items()) == (2 if number == 0 else 0)
        assert [digest_of(unpacked(shelf.blob(name, one))) for one in made[-1]] == [one.diff_id for one in layers]
    assert made[0] == made[1]


def test_equal_layers_in_different_packings_share_a_form(shelf: Optimized, repository: str) -> None:
    content = tar()
    slow = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)
    packings = [zipped(content), zipped(content, 1), Blob(OCI_ZSTD, slow, digest_of(content))]
    packings += [Blob(OCI, content, digest_of(content))]
    before = sums(shelf)["optimization_results"].get("deduplication", {"count": 0})["count"]
    made = set()
    for number, layer in enumerate(packings):
        digest = put(shelf, repository, f"v{number}", layer)
        job = ran(shelf, f"{repository}:v{number}", ON, ZSTD)
        assert (job["state"], job["message"]) == ("optimized", job["message"])
        (referrer,) = shelf.referrers(repository, digest)
        (form,) = shelf.manifest(repository, referrer["digest"])["layers"]
        made.add((form["digest"], form["size"], form["mediaType"]))
    assert len(made) == 1
    assert sums(shelf)["optimization_results"]["deduplication"]["count"] - before == len(packings) - 1


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "claims what another layer is"])
def test_a_configuration_that_lies(shelf: Optimized, repository: str, shared: bool) -> None:
    """Nothing is published, and the form of the layer whose diff_id is claimed is not given to it."""
    claimed = digest_of(b"something else")
    if shared:
        content = tar()
        claimed = digest_of(content)
        put(shelf, repository, "honest", zipped(content))
        ran(shelf, f"{repository}:honest", ON, ZSTD)
    content = tar()
    digest = put(shelf, repository, "v1", Blob(OCI_GZIP, gzip.compress(content, mtime=0), claimed))
    tags = shelf.tags(repository)
    job = ran(shelf, f"{repository}:v1", ON, ZSTD, publish("referrer", "tag", "index"), REPLACE, code=1)
    assert job["state"] == "failed"
    assert job["message"] == f"it unpacks to {digest_of(content)}, and its image says {claimed}"
    assert (shelf.referrers(repository, digest), shelf.tags(repository)) == ([], tags)
    assert shelf.digest(repository, "v1") == digest


def test_what_is_not_worth_it_is_skipped(shelf: Optimized, repository: str) -> None:
    digest = put(shelf, repository, "v1", zipped(tar()), zipped(tar(2_000_000)))
    job = ran(shelf, f"{repository}:v1", ON, ZSTD, "optimization.min_layer_size_mb=0.2")
    assert (job["state"], job["message"]) == ("optimized", "it is smaller than 0.2 MiB")
    (referrer,) = shelf.referrers(repository, digest)
    kept, made = shelf.manifest(repository, referrer["digest"])["layers"]
    original = shelf.manifest(repository, digest)["layers"]
    assert kept == original[0]
    assert made["digest"] != original[1]["digest"]
    job = ran(shelf, f"{repository}:v1", ON, ZSTD, "optimization.min_layer_size_mb=100")
    assert (job["state"], job["message"]) == ("skipped", "it is smaller than 100 MiB")
    job = ran(shelf, f"{repository}:v1", ON, forms("gzip"), "optimization.min_gain=0.9")
    assert (job["state"], job["saved"]) == ("skipped", 0)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    """A server that hears of pushes, to some repositories, and publishes without a subject."""
    settings = (ZSTD, publish("tag", "index"), "server.workers=1", 'optimization.repositories=["team/*", "exact"]')
    with Optimized(tmp_path_factory.mktemp("at-once"), *settings) as registry:
        yield registry


def test_only_repositories_of_the_globs(at_once: Optimized) -> None:
    for name in ("other/app", "exactly", "teams/app"):
        put(at_once, name)
    # Pushed last, and worked on: the others were heard of before.
    for name in ("team/app", "team/deep/app", "exact"):
        assert at_once.ended(name, put(at_once, name))["state"] == "optimized"
    assert {job["repository"] for job in at_once.jobs()} <= {"team/app", "team/deep/app", "exact"}
    assert at_once.tags("other/app") == ["v1"]


def test_what_was_made_here_is_not_worked_on(at_once: Optimized) -> None:
    """A form has no subject here, so that it looks like an image that somebody pushed; so does its index."""
    digest = put(at_once, "team/once")
    assert at_once.ended("team/once", digest)["state"] == "optimized"
    for tag in ("v1-zstd", "v1-index"):
        job = at_once.ended("team/once", at_once.digest("team/once", tag))
        assert (job["state"], job["message"]) == ("skipped", "it is a better form itself")
    assert at_once.tags("team/once") == ["v1", "v1-index", "v1-zstd"]


def test_what_is_no_image_is_not_worked_on(at_once: Optimized) -> None:
    """An artifact, and a signature with a subject: neither becomes a job."""
    fields = {"artifactType": "application/x-thing"}
    thing = put(at_once, "team/things", "thing", **fields)
    put(at_once, "team/things", "about", subject=at_once_descriptor(at_once, thing))
    image = put(at_once, "team/things", "image")
    at_once.ended("team/things", image)
    found = {job["digest"] for job in at_once.jobs() if job["repository"] == "team/things" and job["tag"] != "image"}
    made = {at_once.digest("team/things", tag) for tag in at_once.tags("team/things") if tag.startswith("image-")}
    assert found <= made


def at_once_descriptor(registry: Optimized, digest: str) -> dict[str, Any]:
    answer = registry.client.get(f"/v2/team/things/manifests/{digest}", headers={"accept": "*/*"})
    return {"mediaType": answer.headers["content-type"], "digest": digest, "size": len(answer.content)}


def test_a_manifest_that_is_deleted_has_no_job(at_once: Optimized) -> None:
    gone, stays = put(at_once, "team/gone", "gone"), put(at_once, "team/gone", "stays")
    for digest in (gone, stays):
        at_once.ended("team/gone", digest)
    at_once.client.delete(f"/v2/team/gone/manifests/{gone}").raise_for_status()
    eventually(lambda: gone not in {job["digest"] for job in at_once.jobs()}, "the job of a manifest that is gone")
    assert stays in {job["digest"] for job in at_once.jobs()}


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[ContainerTools]:
    """A container storage under a short path: podman refuses a long one."""
    if os.geteuid() != 0:
        unavailable("podman keeps its storage as root in this test")
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        yield ContainerTools(Programs(tmp_path / "home"), Path(folder))


def test_podman_sees_the_same_files(shelf: Optimized, repository: str, podman: ContainerTools) -> None:
    put(shelf, repository)
    ran(shelf, f"{repository}:v1", ON, forms("zstd", "zstd-chunked"), publish("tag", "index"))
    found = {}
    for tag in ("v1", "v1-zstd", "v1-zstd-chunked", "v1-index"):
        reference = f"{shelf.server.host}/{repository}:{tag}"
        podman.podman("pull", "--quiet", "--tls-verify=false", reference)
        found[tag] = podman.files(reference)
        podman.podman("rmi", "--force", "--all")
    assert len(found["v1"]) == 2
    assert all(files == found["v1"] for files in found.values())


def test_skopeo_copies_every_form(shelf: Optimized, repository: str, tmp_path: Path) -> None:
    """To a folder and back under another name, as it is."""
    names = ("gzip", "zstd", "zstd-chunked", "estargz")
    put(shelf, repository)
    ran(shelf, f"{repository}:v1", ON, forms(*names), publish("tag", "index"))
    for name in (*names, "index"):
        source, folder = f"docker://{shelf.server.host}/{repository}:v1-{name}", f"dir:{tmp_path / name}"
        copy = ("--insecure-policy", "copy", "--all", "--preserve-digests")
        run("skopeo", *copy, "--src-tls-verify=false", source, folder)
        run(
            "skopeo", *copy, "--dest-tls-verify=false", folder, f"docker://{shelf.server.host}/{repository}-back:{name}"
        )
        assert shelf.digest(f"{repository}-back", name) == shelf.digest(repository, f"v1-{name}")
