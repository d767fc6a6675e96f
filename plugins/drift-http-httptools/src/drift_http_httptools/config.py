"""The table ``[http]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct


class HttpConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the HTTP server; address, TLS and the number of connections are in ``[server]`` and ``[tls]``.

    ``backlog`` is connections that wait to be accepted; ``header_read_timeout`` seconds for the head of a request, and
    between two on one connection; ``max_header_bytes`` the largest head.
    """

    enabled: bool = True
    backlog: Annotated[int, Meta(ge=1, le=65535)] = 1024
    header_read_timeout: Annotated[float, Meta(gt=0)] = 30.0
    max_header_bytes: Annotated[int, Meta(ge=8192)] = 64 << 10
