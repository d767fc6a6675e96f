"""Regular expressions over tags, in time that is linear in the tag: whoever may push chooses the tags."""

from collections.abc import Callable
from typing import Any, cast

import re2  # pyright: ignore[reportMissingTypeStubs] - it has none

_re2 = cast("Any", re2)
# What is wrong is raised; RE2 would also write it to standard error.
_OPTIONS = _re2.Options()
_OPTIONS.log_errors = False


def matching(pattern: str) -> Callable[[str], bool]:
    """Returns whether a whole tag matches. Raises ValueError for what is no regular expression of RE2."""
    try:
        compiled = _re2.compile(pattern, _OPTIONS)
    except _re2.error as error:
        reason = error.args[0]
        message = f"{pattern!r}: {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
        raise ValueError(message) from error
    return lambda tag: compiled.fullmatch(tag) is not None
