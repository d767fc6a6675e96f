"""The one exception of this package: why a key, a certificate or a signature is not taken."""

LONGEST_REASON = 200
"""Characters of a reason that are passed on."""


class Refused(Exception):
    """Something is not taken; the message is a short reason, and holds no secret and nothing that a client sent."""

    @property
    def reason(self) -> str:
        """The message, cut: a library may have written some of it."""
        return str(self)[:LONGEST_REASON]
