"""The keys of ``[ui]``."""

import re
from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


class UiConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[ui]``: whether there is a console, how long one stays logged in, and what it counts.

    A session ends ``session_idle_minutes`` after its last use, and ``session_hours`` after the login.
    ``registry_host`` is what commands for clients name; None is the host of the page, with the registry's port.
    With ``count_pulls`` each pull of a manifest is counted, in memory, and written every few seconds.

    At most ``live_pages`` are kept up to date at a time while somebody looks, shared out among the workers, and in each
    of these ``live_pages_per_user``; 0 is none.
    """

    enabled: bool = True
    session_idle_minutes: Annotated[float, Meta(gt=0)] = 60.0
    session_hours: Annotated[float, Meta(gt=0, le=8760)] = 12.0
    registry_host: str | None = None
    count_pulls: bool = True
    live_pages: Annotated[int, Meta(ge=0)] = 200
    live_pages_per_user: Annotated[int, Meta(ge=0)] = 10

    def __post_init__(self) -> None:
        if self.registry_host is not None and _HOST.fullmatch(self.registry_host) is None:
            message = f"registry_host: {self.registry_host!r} is no host such as registry.example.org:5000"
            raise ValueError(message)
