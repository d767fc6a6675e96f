"""What an image claims gets it nothing of others, and harms no other image; tags of others stay."""

import gzip
import json
from collections.abc import Iterator, Sequence

import pytest

from .corpus import Tar
from .pushing import OCI, OCI_CONFIG, OCI_GZIP, OCI_MANIFEST, Blob, digest_of, put_blob, put_image, put_manifest, text
from .registry import Optimized, unpacked

ELSEWHERE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    settings = (
        'optimization.forms=["zstd"]',
        "optimization.enable_layer_squashing=true",
        'optimization.publish=["referrer", "tag"]',
    )
    with Optimized(tmp_path_factory.mktemp("claims"), *settings) as registry:
        yield registry


def layer(seed: int) -> Blob:
    tar = Tar().file(f"file{seed}", text(seed, 50_000)).end()
    return Blob(OCI_GZIP, gzip.compress(tar, 1, mtime=0), digest_of(tar))


def claim(registry: Optimized, repository: str, layers: Sequence[dict[str, object]], diff_ids: Sequence[str]) -> str:
    """Pushes an image with layers that the repository need not have, and returns its digest."""
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}).encode()
    put_blob(registry, repository, config)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": list(layers),
    }
    answer = put_manifest(registry, repository, "v1", document, OCI_MANIFEST)
    answer.raise_for_status()
    return str(answer.headers["docker-content-digest"])


def blobs_of(registry: Optimized, repository: str, digests: Sequence[str]) -> list[int]:
    return [registry.client.head(f"/v2/{repository}/blobs/{digest}").status_code for digest in digests]


def made_of(registry: Optimized, repository: str, tag: str) -> list[str]:
    return [one["digest"] for one in registry.manifest(repository, tag)["layers"]]


def test_a_layer_of_others_is_not_given_out_in_another_form(registry: Optimized) -> None:
    secret = [layer(1), layer(2)]
    registry.ended("victim/app", put_image(registry, "victim/app", "v1", secret))
    forms = [digest for form in ("zstd", "squashed") for digest in made_of(registry, "victim/app", f"v1-{form}")]
    assert len(forms) == 3
    # By layers that a registry need not have.
    foreign = [{**one.descriptor, "mediaType": ELSEWHERE} for one in secret]
    assert registry.ended("thief/one", claim(registry, "thief/one", foreign, [one.diff_id for one in secret]))
    # By layers of one's own, that are said to unpack to the same.
    own = [layer(3), layer(4)]
    for one in own:
        put_blob(registry, "thief/two", one.content)
    lie = [one.descriptor for one in own]
    assert registry.ended("thief/two", claim(registry, "thief/two", lie, [one.diff_id for one in secret]))
    for repository in ("thief/one", "thief/two"):
        assert blobs_of(registry, repository, forms) == [404] * len(forms)
        assert registry.tags(repository) == ["v1"]


def test_a_lie_about_a_layer_keeps_no_form_from_others(registry: Optimized) -> None:
    public = layer(5)
    put_blob(registry, "liar/app", public.content)
    job = registry.ended("liar/app", claim(registry, "liar/app", [public.descriptor], [digest_of(b"a lie")]))
    assert job["state"] == "failed"
    # As a tar, which it is not: its form unpacks to the gzip.
    put_blob(registry, "liar/tar", public.content)
    as_tar = {**public.descriptor, "mediaType": OCI, "annotations": {"secret": "of the liar"}}
    assert registry.ended("liar/tar", claim(registry, "liar/tar", [as_tar], [digest_of(public.content)]))
    job = registry.ended("honest/app", put_image(registry, "honest/app", "v1", [public]))
    assert job["state"] == "optimized"
    (made,) = registry.manifest("honest/app", "v1-zstd")["layers"]
    assert digest_of(unpacked(registry.blob("honest/app", made["digest"]))) == public.diff_id
    assert "secret" not in made.get("annotations", {})


def test_a_tag_of_somebody_stays(registry: Optimized) -> None:
    own = put_image(registry, "team/app", "v1-zstd", [layer(6)])
    registry.ended("team/app", put_image(registry, "team/app", "v1", [layer(7)]))
    assert registry.digest("team/app", "v1-zstd") == own


def test_every_tag_of_an_image_has_its_forms(registry: Optimized) -> None:
    for tag in ("1.2.3", "latest"):
        digest = put_image(registry, "team/tagged", tag, [layer(8)])
        registry.ended("team/tagged", digest)
    wanted = {"repository": "team/tagged"}
    numbers = registry.client.post("/admin/optimize", json=wanted).json()["jobs"]
    job = registry.ended("team/tagged", digest)
    assert (job["id"] in numbers, job["state"]) == (True, "optimized")
    assert {"1.2.3-zstd", "latest-zstd"} <= set(registry.tags("team/tagged"))


def test_a_configuration_that_nobody_can_read_stops_nothing(registry: Optimized) -> None:
    config = b"[" * 200_000
    put_blob(registry, "bad/app", config)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [],
    }
    answer = put_manifest(registry, "bad/app", "v1", document, OCI_MANIFEST)
    job = registry.ended("bad/app", answer.headers["docker-content-digest"])
    assert (job["state"], job["attempts"]) == ("skipped", 1)


def test_the_tags_of_what_takes_the_place_of_an_image_stay(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = (
        'optimization.forms=["zstd"]',
        "optimization.preserve_original=false",
        'optimization.publish=["tag", "index"]',
    )
    with Optimized(tmp_path_factory.mktemp("retired"), *settings) as registry:
        registry.ended("team/app", put_image(registry, "team/app", "v1", [layer(9)]))
        # Pushing the index to the tag is an event of its own.
        registry.ended("team/app", registry.digest("team/app", "v1"))
        assert registry.tags("team/app") == ["v1", "v1-zstd"]
