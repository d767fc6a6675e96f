"""Why a layer gets no other form."""

from typing import Literal

Kind = Literal["damaged", "bomb", "slow", "large", "unsupported", "failed"]
"""What is wrong: the layer's bytes, what it unpacks to, a limit of time, one of size or memory, what is not done here
by intention, or the process itself.
"""


class Refused(Exception):
    """The layer is left as it is; ``reason`` is for whoever operates the registry."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind
        self.reason = reason
