"""An image stands on the known image with the most of its lowest layers, and tags that moved since are named."""

from collections.abc import Sequence

import pytest
from drift_optimize.bases import BASE_DIGEST, BASE_NAME, KnownImage, by_chain, chain_ids, find_base, outdated
from hypothesis import given
from hypothesis import strategies as st

from drift_core.api import Digest

A, B, C, D, E = (Digest.of(name) for name in (b"a", b"b", b"c", b"d", b"e"))


def known(tag: str, diff_ids: Sequence[Digest], created: float | None = 0.0, **more: object) -> KnownImage:
    digest = Digest.of("".join([tag, *diff_ids]).encode())
    chain_id = chain_ids(diff_ids)[-1]
    return KnownImage(f"registry/base:{tag}", "base", tag, digest, chain_id, created, **more)  # type: ignore[arg-type]


def test_chain_ids_of_the_specification() -> None:
    second = Digest.of(f"{A} {B}".encode())
    assert chain_ids([A, B, C]) == [A, second, Digest.of(f"{second} {C}".encode())]
    assert chain_ids([]) == []


def test_known_chain_ids() -> None:
    """Computed with ``printf '%s %s' A B | sha256sum``."""
    first = Digest("sha256:" + "1" * 64)
    second = Digest("sha256:" + "2" * 64)
    assert chain_ids([first, second])[1] == "sha256:9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5"


def test_the_longest_proper_prefix_is_the_base() -> None:
    one, two, whole = known("1", [A]), known("2", [A, B]), known("3", [A, B, C])
    table = by_chain([one, two, whole])
    found = find_base([A, B, C], table)
    assert found is not None
    assert (found.layers, found.chain_id, found.images) == (2, two.chain_id, (two,))
    found = find_base([A, C], table)
    assert found is not None
    assert found.images == (one,)
    assert find_base([A], table) is None
    assert find_base([B, A], table) is None
    assert find_base([], table) is None


def test_every_tag_of_the_same_layers_newest_first() -> None:
    images = [known("old", [A], 1.0), known("b", [A], 5.0), known("a", [A], 5.0), known("no-date", [A], None)]
    found = find_base([A, B], by_chain(images))
    assert found is not None
    assert [image.tag for image in found.images] == ["a", "b", "old", "no-date"]


def test_a_tag_that_moved() -> None:
    before, fixed, now = known("latest", [A], current=False), known("1", [A]), known("latest", [B], 1.0)
    images = [before, fixed, now]
    base = find_base([A, C], by_chain(images))
    assert base is not None
    assert set(base.images) == {before, fixed}
    (found,) = outdated([A, C], base, images)
    assert (found.reference, found.was, found.now) == ("registry/base:latest", before.digest, now)
    assert outdated([B, C], find_base([B, C], by_chain(images)), images) == []


def test_a_tag_with_another_digest_and_the_same_layers_is_not_outdated() -> None:
    before = known("latest", [A], current=False)
    now = KnownImage("registry/base:latest", "base", "latest", E, before.chain_id, 1.0)
    base = find_base([A, C], by_chain([before, now]))
    assert outdated([A, C], base, [before, now]) == []


def test_a_tag_that_is_gone_is_not_outdated() -> None:
    before = known("latest", [A], current=False)
    assert outdated([A, C], find_base([A, C], by_chain([before])), [before]) == []


def test_platforms_are_not_mixed_up() -> None:
    before = known("1", [A], current=False, platform="linux/amd64")
    arm = known("1", [D], platform="linux/arm64")
    base = find_base([A, C], by_chain([before, arm]))
    assert outdated([A, C], base, [before, arm]) == []
    now = known("1", [B], platform="linux/amd64")
    assert [found.now for found in outdated([A, C], base, [before, arm, now])] == [now]


def test_annotations_name_a_base_of_which_no_layer_is_known() -> None:
    now = known("1", [B])
    annotations = {BASE_NAME: now.reference, BASE_DIGEST: str(E)}
    (found,) = outdated([A, C], None, [now], annotations)
    assert (found.reference, found.was, found.now) == (now.reference, E, now)
    assert outdated([B, C], None, [now], annotations) == []
    assert outdated([A, C], None, [now], {**annotations, BASE_DIGEST: str(now.digest)}) == []
    assert outdated([A, C], None, [], annotations) == []
    assert outdated([A, C], None, [now], annotations, "linux/arm64") == []


@pytest.mark.parametrize("digest", ["", "latest", "sha256:zz", "sha256:" + "0" * 63, "md5:" + "0" * 32])
def test_annotations_that_are_none(digest: str) -> None:
    assert outdated([A, C], None, [known("1", [B])], {BASE_NAME: "registry/base:1", BASE_DIGEST: digest}) == []
    assert outdated([A, C], None, [known("1", [B])], {BASE_NAME: "registry/base:1"}) == []


chains = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=5)


@given(st.lists(chains, max_size=8), chains)
def test_the_same_as_by_comparing_lists(bases: list[list[Digest]], image: list[Digest]) -> None:
    fitting = [len(base) for base in bases if len(base) < len(image) and image[: len(base)] == base]
    found = find_base(image, by_chain(known("x", base) for base in bases))
    assert (found.layers if found else None) == max(fitting, default=None)
