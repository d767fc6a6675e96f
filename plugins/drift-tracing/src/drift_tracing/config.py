"""The table ``[tracing]``."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, field

from drift_core.api import Secret, Struct

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.1."""

_OURS: Final = frozenset({"connection", "content-encoding", "content-length", "content-type", "host"})
"""Headers that are made with each request."""


class TracingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where spans are sent, ``endpoint`` of OTLP over HTTP with ``headers``, and of which requests.

    ``sample_ratio`` is the share of the traces that begin here; a client that sends ``traceparent`` decides for itself.
    ``ca_file`` has who vouches for the collector, in PEM. An attempt to export ends after ``timeout_seconds``, and
    ``queue_size`` spans wait for it in each process; of further ones the oldest are lost.
    """

    enabled: bool = False
    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    ca_file: str | None = None
    service_name: Annotated[str, Meta(min_length=1)] = "drift"
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    queue_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path.strip("/"):
            raise ValueError("endpoint has to be like https://collector.example:4318/v1/traces")
        if parts.query or parts.fragment or "@" in parts.netloc:
            # It is in error messages.
            raise ValueError("endpoint must have no query and no password; what is secret belongs in headers")
        for name, value in self.headers.items():
            if not _NAME.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"headers must not have {name!r}")
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"the value of headers.{name} cannot be sent")
