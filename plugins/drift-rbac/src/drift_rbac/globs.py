"""Globs of repository names, in which ``*`` is any text: what they match, have in common, and cover."""

import re
from collections.abc import Iterable
from functools import lru_cache

MOST_STARS = 2
"""Most ``*`` in one glob, so that what two have in common stays short."""

INTRICATE = 4096
"""Product of the lengths of two globs from which on nobody works out what they have in common."""


def is_glob(text: str) -> bool:
    """Returns whether a text can be a glob of repositories."""
    return re.fullmatch(r"[a-z0-9._/*-]{1,255}", text) is not None and text.count("*") <= MOST_STARS


class Glob:
    """One glob, matched in time that grows with the name alone."""

    __slots__ = ("_first", "_last", "_middle", "_room")

    def __init__(self, text: str) -> None:
        self._first, *rest = text.split("*")
        self._last = rest.pop() if rest else None
        self._middle = rest
        self._room = len(self._first) + len(self._last or "")

    def match(self, name: str) -> bool:
        """Returns whether the glob matches a name."""
        if self._last is None:
            return name == self._first
        if len(name) < self._room or not name.startswith(self._first) or not name.endswith(self._last):
            return False
        place, end = len(self._first), len(name) - len(self._last)
        for part in self._middle:
            place = name.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True


def covers(wide: str, narrow: str) -> bool:
    """Returns whether a glob matches all that another matches; False also where this is hard to see."""
    # A ``*`` of the narrow one is a text that only a ``*`` of the wide one can match.
    return Glob(wide).match(narrow)


def union(globs: Iterable[str]) -> tuple[str, ...]:
    """Returns the globs, sorted, without those that another one covers."""
    every = sorted({re.sub(r"\*+", "*", glob) for glob in globs})
    return tuple(glob for glob in every if not any(other != glob and covers(other, glob) for other in every))


@lru_cache(4096)
def common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns globs that together match what a glob of ``one`` and a glob of ``other`` both match.

    Returns None where the two are so long that this would take a while.
    """
    found: set[str] = set()
    for left in one:
        for right in other:
            if covers(left, right):
                found.add(right)
            elif covers(right, left):
                found.add(left)
            elif len(left) * len(right) > INTRICATE:
                return None
            else:
                found |= _common(left, right)
    return union(found)


def _common(one: str, other: str) -> set[str]:
    """Returns what two globs have in common: what a ``*`` of either takes of the other is tried end by end."""
    known: dict[tuple[int, int], set[str]] = {}

    def found(i: int, j: int) -> set[str]:
        if (i, j) not in known:
            known[i, j] = _tried(i, j)
        return known[i, j]

    def _tried(i: int, j: int) -> set[str]:
        left, right = one[i : i + 1], other[j : j + 1]
        if not left and not right:
            return {""}
        tails: set[str] = set()
        if left == "*":
            tails |= found(i + 1, j)
            tails |= {_joined(right, tail) for tail in found(i, j + 1)} if right else set()
        if right == "*":
            tails |= found(i, j + 1)
            tails |= {_joined(left, tail) for tail in found(i + 1, j)} if left else set()
        if left == right != "*":
            tails |= {left + tail for tail in found(i + 1, j + 1)}
        return set(union(tails))

    return found(0, 0)


def _joined(first: str, tail: str) -> str:
    return tail if first == "*" and tail.startswith("*") else first + tail


class Globs:
    """What a set of globs matches, quickly: whole names and prefixes without a regular expression."""

    __slots__ = ("_exact", "_patterns", "_prefixes", "every", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self.every = "*" in self.texts
        prefixes = [text for text in self.texts if text.endswith("*") and "*" not in text[:-1]]
        self._exact = frozenset(text for text in self.texts if "*" not in text)
        self._prefixes = tuple(text[:-1] for text in prefixes)
        self._patterns = tuple(Glob(text) for text in self.texts if "*" in text and text not in prefixes)

    def match(self, name: str) -> bool:
        """Returns whether a name matches one of the globs."""
        return (
            self.every
            or name in self._exact
            or name.startswith(self._prefixes)
            or any(known.match(name) for known in self._patterns)
        )
