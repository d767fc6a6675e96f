"""The keys of ``[audit]`` and of its tables, one for each sink."""

from typing import Annotated, Literal

from msgspec import Meta, field

from drift_core.api import Secret, Severity, Struct, check_url

Path = Annotated[str, Meta(min_length=1)]

Timeout = Annotated[float, Meta(gt=0, le=10)]
"""Seconds for one delivery, which has to end while the sink is still held by this process."""


class FileExport(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[audit.file_export]``: a file that is renamed at ``rotation_size_mb`` (MiB), and later removed.

    ``retention_days`` is how long a renamed file stays.
    """

    path: Path = "./logs/audit.jsonl"
    format: Literal["json", "jsonlines", "csv"] = "jsonlines"
    rotation_size_mb: Annotated[int, Meta(ge=1)] = 100
    retention_days: Annotated[int, Meta(ge=1)] = 90


class WebhookExport(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[audit.webhook_export]``: ``url`` gets a JSON array of up to ``batch_size`` records by POST.

    With ``secret`` the body is signed. ``retry_attempts`` are made at once, before the sink counts as down.
    """

    url: str
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    secret: Secret | None = None
    timeout_seconds: Timeout = 10.0
    retry_attempts: Annotated[int, Meta(ge=0, le=10)] = 3
    batch_size: Annotated[int, Meta(ge=1, le=1000)] = 100

    def __post_init__(self) -> None:
        check_url(self.url)


class ElasticsearchExport(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[audit.elasticsearch_export]``: indices ``<index_prefix>-YYYY.MM.DD`` of the cluster at ``url``."""

    url: str
    index_prefix: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,200}$")] = "drift-audit"
    username: str | None = None
    password: Secret | None = None
    timeout_seconds: Timeout = 10.0
    batch_size: Annotated[int, Meta(ge=1, le=1000)] = 500

    def __post_init__(self) -> None:
        check_url(self.url)
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")


class SyslogExport(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[audit.syslog_export]``: ``address`` is host:port; ``ca_file`` has who signs the certificate of a TLS server.

    ``facility`` is the number of RFC 5424 section 6.2.1; 13 is "log audit".
    """

    address: Annotated[str, Meta(pattern=r"^.+:[0-9]{1,5}$")]
    protocol: Literal["udp", "tcp", "tls"] = "tls"
    facility: Annotated[int, Meta(ge=0, le=23)] = 13
    app_name: Annotated[str, Meta(pattern=r"^[!-~]{1,48}$")] = "drift"
    ca_file: str | None = None
    timeout_seconds: Timeout = 10.0
    batch_size: Annotated[int, Meta(ge=1, le=1000)] = 100

    def __post_init__(self) -> None:
        if self.ca_file is not None and self.protocol != "tls":
            raise ValueError("ca_file is only used with protocol tls")


class AuditConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[audit]``: what is recorded, how strictly, and where to it is sent on.

    With ``required`` nothing is done that cannot be recorded. Without, ``buffer_size`` is the most records that wait
    for the next of the flushes, which are ``flush_interval_seconds`` apart.

    ``min_severity``, ``enabled_event_types`` (empty: all), ``exclude_patterns`` (parts of the name of a resource or
    user) and ``pulls`` say what is recorded. ``key_file`` has the key of the chain, and is made with the trail.
    ``begin_anew`` begins a new trail where the one that was there is gone; it is for one start.
    ``retention_days`` None keeps records for ever. A sink is there where its table is.
    """

    enabled: bool = False
    required: bool = True
    pulls: bool = True
    min_severity: Severity = "info"
    enabled_event_types: tuple[str, ...] = ()
    exclude_patterns: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    buffer_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    flush_interval_seconds: Annotated[float, Meta(gt=0)] = 60.0
    key_file: Path | None = None
    begin_anew: bool = False
    retention_days: Annotated[int, Meta(ge=1)] | None = None
    file_export: FileExport | None = None
    webhook_export: WebhookExport | None = None
    elasticsearch_export: ElasticsearchExport | None = None
    syslog_export: SyslogExport | None = None
