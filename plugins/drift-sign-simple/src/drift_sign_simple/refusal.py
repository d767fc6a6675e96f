"""The one exception of this package: why a key, a message or an artifact is not taken."""


class Refused(Exception):
    """Something is not taken; the message is a short reason, and holds no secret and nothing that a client sent.

    After ``until``, in seconds since the epoch, the answer may be another; None is never.
    """

    def __init__(self, reason: str, until: float | None = None) -> None:
        super().__init__(reason)
        self.until = until
