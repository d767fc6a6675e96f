"""A real server: images of every kind are pushed by skopeo, and their forms are what clients make the same tree of."""

from collections.abc import Iterator
from hashlib import sha256

import pytest

from .corpus import IMAGES, assert_same_tree, names, tree_of
from .registry import Optimized, diff_ids, run

FORMS = ("gzip", "zstd", "zstd-chunked", "estargz")
REPOSITORY = "corpus/images"
FEW = {
    "compressions",
    "devices",
    "empty_tars",
    "hardlinks_across_layers",
    "long_names",
    "plain",
    "same_diff_ids",
    "several_platforms",
    "sparse",
    "whiteouts",
    "xattrs",
}
"""For every run; forms of all images are compared without a server in other tests."""
NOT_BY_CRANE = {"duplicates": "wants each path once in a layer"}
EVERY = [pytest.param(name, marks=[] if name in FEW else [pytest.mark.soak]) for name in names()]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    forms = f"optimization.forms={list(FORMS)}".replace("'", '"')
    settings = (forms, "optimization.enable_layer_squashing=true", 'optimization.publish=["referrer", "tag", "index"]')
    with Optimized(tmp_path_factory.mktemp("optimized"), *settings) as registry:
        yield registry


@pytest.mark.parametrize("name", EVERY)
def test_every_form_unpacks_to_the_same(registry: Optimized, name: str) -> None:
    """Byte for byte the same tars; the squashed one the same tree. The original stays as it was pushed."""
    image = IMAGES[name]()
    tag = name.replace("_", "-")
    digest = registry.push(REPOSITORY, tag, image)
    job = registry.ended(REPOSITORY, digest)
    assert job["state"] in ("optimized", "skipped"), job
    assert registry.digest(REPOSITORY, tag) == digest
    original = registry.manifest(REPOSITORY, digest)
    referrers = {one["digest"] for one in registry.referrers(REPOSITORY, digest)}
    made = [form for form in (*FORMS, "squashed") if f"{tag}-{form}" in registry.tags(REPOSITORY)]
    assert bool(made) == (job["state"] == "optimized")
    for form in made:
        reference = f"{registry.server.host}/{REPOSITORY}:{tag}-{form}"
        assert registry.digest(REPOSITORY, f"{tag}-{form}") in referrers
        # Of layers in zstd it checks only that they are there: it unpacks every layer by gzip.
        fast = ["--fast"] if form.startswith("zstd") or "zstd" in str(original) or name in NOT_BY_CRANE else []
        run("crane", "validate", "--remote", reference, *fast)
        manifest = registry.manifest(REPOSITORY, f"{tag}-{form}")
        if "manifests" not in manifest:
            assert_form(registry, form, original, manifest, image.tars)


def assert_form(
    registry: Optimized, form: str, original: dict[str, object], made: dict[str, object], tars: list[bytes]
) -> None:
    config = registry.blob(REPOSITORY, made["config"]["digest"])
    found = registry.tars(REPOSITORY, made)
    assert [f"sha256:{sha256(tar).hexdigest()}" for tar in found] == diff_ids(config)
    if form == "squashed":
        assert len(found) == 1
        assert_same_tree(tree_of(tars), tree_of(found))
    else:
        assert made["config"] == original["config"]
        assert found == tars
