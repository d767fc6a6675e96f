"""Finds the page of a path: by the path as it was sent, since an encoded slash does not separate."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

from msgspec import Struct

from drift_core.api import pages

LONGEST = 4096
"""Characters of a path that is taken seriously."""


class Found(Struct, frozen=True):
    """A page, and the parts of the path by their names in the page's."""

    page: pages.Page
    parts: Mapping[str, str]


class Routes:
    """Pages by the form of their paths: ``{name}`` is one part, and ``{name*}`` one or more with slashes between.

    Of two forms that fit, that with more literal parts is meant.
    """

    def __init__(self, every: Sequence[pages.Page]) -> None:
        forms = [(page.path.strip("/").split("/"), page) for page in every]
        self._forms = sorted(forms, key=lambda form: -sum(not part.startswith("{") for part in form[0]))

    def find(self, raw_path: str) -> Found | None:
        """Returns the page of a percent-encoded path, or None."""
        if len(raw_path) > LONGEST:
            return None
        parts = [unquote(part, errors="replace") for part in raw_path.strip("/").split("/")]
        if any(not part.isprintable() for part in parts):
            return None
        for form, page in self._forms:
            found = _fit(form, parts)
            if found is not None:
                return Found(page, found)
        return None


def _fit(form: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    if not form:
        return None if parts else {}
    first, rest = form[0], form[1:]
    if first.endswith("*}"):
        # The shortest that fits: what follows is a literal that no name has.
        for length in range(1, len(parts) - len(rest) + 1):
            found = _fit(rest, parts[length:])
            if found is not None:
                return {first[1:-2]: "/".join(parts[:length]), **found}
        return None
    if not parts:
        return None
    if first.startswith("{"):
        found = _fit(rest, parts[1:])
        return None if found is None or not parts[0] else {first[1:-1]: parts[0], **found}
    return _fit(rest, parts[1:]) if first == parts[0] else None


def path_of(*parts: str) -> str:
    """Returns the path of some parts, in which only slashes and what no path may have is encoded."""
    return "/" + "/".join(quote(part, safe="/:@-._~") for part in parts)


def filled(form: str, parts: Mapping[str, str]) -> str:
    """Returns the path of a page of this form with these parts."""
    return "/" + "/".join(_value(part, parts) for part in form.strip("/").split("/"))


def _value(part: str, parts: Mapping[str, str]) -> str:
    if part.endswith("*}"):
        return path_of(parts[part[1:-2]])[1:]
    # A slash within one part has to stay within it.
    return quote(parts[part[1:-1]], safe=":@-._~") if part.startswith("{") else part


def local_path(wanted: str | None) -> str | None:
    """Returns ``wanted`` where a browser takes it for a path of this site, else None."""
    if wanted is None or not wanted.startswith("/") or wanted.startswith("//") or len(wanted) > LONGEST:
        return None
    # Browsers read a backslash as a slash, and leave out tabs and line breaks.
    if "\\" in wanted or not wanted.isascii() or not wanted.isprintable() or " " in wanted:
        return None
    return wanted
