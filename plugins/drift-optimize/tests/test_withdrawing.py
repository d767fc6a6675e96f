"""Tags of forms go with the tag that they stand beside, and when it names what has no such form."""

from collections.abc import Iterator

import pytest

from tests.faults.inspection import eventually

from .corpus import Image, Layer, Tar
from .registry import Optimized

TEXT = Image((Layer(Tar().file("a", b"a text that is packed well " * 5000).end()),))
REPOSITORY = "team/app"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    settings = ('optimization.forms=["zstd", "estargz"]', 'optimization.publish=["tag", "index"]')
    with Optimized(tmp_path_factory.mktemp("withdrawn"), *settings) as registry:
        yield registry


def made(registry: Optimized, tag: str) -> list[str]:
    return sorted(name for name in registry.tags(REPOSITORY) if name.startswith(f"{tag}-"))


def push(registry: Optimized, tag: str, image: Image) -> None:
    registry.ended(REPOSITORY, registry.push(REPOSITORY, tag, image))


def test_with_the_tag(registry: Optimized) -> None:
    push(registry, "one", TEXT)
    assert made(registry, "one") == ["one-estargz", "one-estargz-esgztoc", "one-index", "one-zstd"]
    registry.client.delete(f"/v2/{REPOSITORY}/manifests/one").raise_for_status()
    eventually(lambda: made(registry, "one") == [], "the tags of forms gone")


def test_but_not_what_somebody_pushed_there(registry: Optimized) -> None:
    push(registry, "three", TEXT)
    own = registry.push(REPOSITORY, "three-zstd", Image((Layer(b"", "none"),)))
    registry.client.delete(f"/v2/{REPOSITORY}/manifests/three").raise_for_status()
    eventually(lambda: made(registry, "three") == ["three-zstd"], "the tags of forms gone")
    assert registry.digest(REPOSITORY, "three-zstd") == own


def test_where_the_tag_names_what_gains_nothing(registry: Optimized) -> None:
    push(registry, "two", Image((Layer(Tar().file("b", b"another text " * 5000).end()),)))
    assert len(made(registry, "two")) == 4
    push(registry, "two", Image((Layer(b"", "none"),)))
    eventually(lambda: made(registry, "two") == [], "the tags of the former image's forms gone")
