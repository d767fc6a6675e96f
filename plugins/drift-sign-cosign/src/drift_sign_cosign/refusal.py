"""The one exception of this package: why a key, a certificate or a signature is not taken."""


class Refused(Exception):
    """Something is not taken; the message is a short reason, and holds no secret and nothing that a client sent."""
