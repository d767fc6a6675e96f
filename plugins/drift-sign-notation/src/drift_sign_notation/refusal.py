"""The one exception by which the reading of a signature ends."""


class Refused(Exception):
    """A signature is not good; the message is the short reason, and repeats no text of whoever made it.

    ``until`` is when time alone may change that, in seconds since the epoch, None is never.
    """

    def __init__(self, reason: str, until: float | None = None) -> None:
        super().__init__(reason)
        self.until = until
