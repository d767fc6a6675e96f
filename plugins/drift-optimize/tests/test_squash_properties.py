"""Random sequences of layers, squashed whole and above each base, against the model."""

import io
from collections.abc import Callable

import pytest
from drift_optimize.squash import AmbiguousLayers, DamagedLayer, squash
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .corpus import Tar, assert_same_tree, tree_of
from .corpus.trees import Tree

NAMES = ["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/a/a", "a/a/b", "a/b/c", "b/c/a"]
KINDS = ["file", "file", "dir", "symlink", "fifo", "gone", "gone", "opaque", "link", "link"]
Step = tuple[str, str, str, int]
steps = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 3))
layers_of_steps = st.lists(st.lists(steps, max_size=7), min_size=1, max_size=5)
MAKE: dict[str, Callable[[Tar, str, str, int], Tar]] = {
    "file": lambda tar, name, _, number: tar.file(name, b"%d" % number * (number * 300)),
    "dir": lambda tar, name, _, number: tar.dir(name, mode=0o700 + number),
    "symlink": lambda tar, name, target, _: tar.symlink(name, target),
    "fifo": lambda tar, name, _, number: tar.fifo(name, uid=number),
    "gone": lambda tar, name, *_: tar.gone(name),
    "opaque": lambda tar, name, *_: tar.opaque(name),
    "link": lambda tar, name, target, _: tar.link(name, target),
}


def built(layers: list[list[Step]]) -> list[bytes]:
    """Makes layers in which everything is possible: a step that is not, as the tree then stands, is left out."""
    tars: list[bytes] = []
    for layer in layers:
        tar = Tar()
        for kind, name, target, number in layer:
            part = MAKE[kind](Tar(), name, target, number).end(0)
            if possible([*tars, Tar().raw(tar.end(0)).raw(part).end()]):
                tar.raw(part)
        tars.append(tar.end())
    return tars


def possible(tars: list[bytes]) -> bool:
    try:
        squash([io.BytesIO(tar) for tar in tars], io.BytesIO())
    except DamagedLayer:
        return False
    except AmbiguousLayers:
        return False
    return True


def squashed(tars: list[bytes], base: int = 0) -> bytes:
    out = io.BytesIO()
    squash([io.BytesIO(tar) for tar in tars], out, base=base)
    return out.getvalue()


def check(layers: list[list[Step]]) -> Tree:
    tars = built(layers)
    wanted = tree_of(tars)
    assert_same_tree(wanted, tree_of([squashed(tars)]))
    for base in range(1, len(tars)):
        assert_same_tree(wanted, tree_of([*tars[:base], squashed(tars, base)]))
    return wanted


@settings(max_examples=150, deadline=None)
@given(layers_of_steps)
def test_the_same_tree(layers: list[list[Step]]) -> None:
    check(layers)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(layers_of_steps)
def test_the_same_tree_at_length(layers: list[list[Step]]) -> None:
    check(layers)


@settings(max_examples=50, deadline=None)
@given(layers_of_steps, st.data())
def test_squashing_in_two_steps_is_squashing(layers: list[list[Step]], data: st.DataObject) -> None:
    tars = built(layers)
    assume(len(tars) > 2)
    base = data.draw(st.integers(1, len(tars) - 1))
    assert_same_tree(tree_of(tars), tree_of([squashed([*tars[:base], squashed(tars, base)])]))
