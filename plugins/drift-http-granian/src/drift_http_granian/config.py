"""The table ``[granian]``."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import Struct


class GranianConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the HTTP server; address, TLS and the number of connections are in ``[server]`` and ``[tls]``.

    ``backlog`` is connections that wait to be accepted; ``http`` the versions that are spoken, ``auto`` for both.
    ``header_read_timeout`` is seconds for the head of a request, and between two on one connection.
    ``max_header_bytes`` is the largest head, and Granian's buffer too: 64 KiB halve the speed of an upload.
    """

    enabled: bool = False
    backlog: Annotated[int, Meta(ge=1, le=65535)] = 1024
    http: Literal["auto", "1", "2"] = "auto"
    header_read_timeout: Annotated[float, Meta(gt=0)] = 30.0
    max_header_bytes: Annotated[int, Meta(ge=8192)] = 408 << 10
