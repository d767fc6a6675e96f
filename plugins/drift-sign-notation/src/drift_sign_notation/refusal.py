"""The one exception by which the reading of a signature ends."""

from typing import Final

LONGEST_REASON: Final = 200
"""Characters of a reason that are passed on."""


class Refused(Exception):
    """A signature is not good; the message is the short reason, and repeats no text of whoever made it.

    ``until`` is when time alone may change that, in seconds since the epoch, None is never.
    """

    def __init__(self, reason: str, until: float | None = None) -> None:
        super().__init__(reason)
        self.until = until

    @property
    def reason(self) -> str:
        """The message, cut: a library may have written some of it."""
        return str(self)[:LONGEST_REASON]
