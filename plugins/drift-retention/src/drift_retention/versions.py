"""Tags that are versions, and ranges of versions, by Semantic Versioning 2.0."""

import operator
import re
from collections.abc import Callable, Sequence

from msgspec import Struct
from semver import Version

_COMPARATORS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_PART = re.compile(r"(>=|<=|>|<|=)\s*v?([0-9][0-9A-Za-z.+-]*)")
_SHORT = re.compile(r"[0-9]+(\.[0-9]+)?(-.*)?")


def version_of(tag: str) -> Version | None:
    """Returns the version that a tag is, or None; it has three numbers, and may begin with ``v``.

    A tag cannot hold the ``+`` before what a build is called: Helm writes ``_``.
    """
    try:
        return Version.parse(tag.removeprefix("v").replace("_", "+"))
    except ValueError:
        return None


class Range(Struct, frozen=True):
    """Versions that are within all of some bounds; pre-releases among them only where a bound names one."""

    bounds: Sequence[tuple[str, Version]]

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Returns the range of a text such as ``>=1.2, <3``; ``*`` is every release.

        Numbers may be left out behind ``>=`` and ``<``, where it is clear what that means. Raises ValueError.
        """
        if text.strip() == "*":
            return cls(())
        return cls([_bound(part.strip()) for part in text.split(",")])

    def __contains__(self, version: Version) -> bool:
        if version.prerelease is not None and all(bound.prerelease is None for _, bound in self.bounds):
            return False
        return all(_COMPARATORS[comparator](version, bound) for comparator, bound in self.bounds)


def _bound(part: str) -> tuple[str, Version]:
    found = _PART.fullmatch(part)
    if found is None:
        message = f"{part!r} is no bound such as >=1.2 or <3"
        raise ValueError(message)
    comparator, text = found[1], found[2]
    if comparator not in (">=", "<") and _SHORT.fullmatch(text):
        message = f"{part!r} needs all three numbers: only >= and < may leave some out"
        raise ValueError(message)
    try:
        return comparator, Version.parse(text, optional_minor_and_patch=True)
    except ValueError as error:
        message = f"{text!r} is no version"
        raise ValueError(message) from error
