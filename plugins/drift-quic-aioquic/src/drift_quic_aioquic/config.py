"""The keys of ``[quic]``, which the transport, the feature and the commands share."""

from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field

from drift_core.api import Struct

HTTP3: Final = "h3"
"""The ALPN of HTTP/3 (RFC 9114 section 3.1), which is always offered."""

MESSAGES: Final = "drift-registry"
"""The ALPN of the message set."""

BACKENDS: Final = ("aioquic", "qh3", "quinn")
"""Engines of QUIC; all but the first one are installed by who wants them."""

MODULES: Final = {"aioquic": "aioquic", "qh3": "qh3", "quinn": "drift_quinn"}
"""What has to be installed for each."""

INSTALLED_BY: Final = {
    "aioquic": "pip install aioquic",
    "qh3": "pip install 'drift-quic-aioquic[qh3]'",
    "quinn": "make native in a checkout of Drift, which needs cargo",
}

INSTEAD: Final = {
    "mock": "it answered every request with an error; leave quic.enabled false where nothing is to be served",
    "quiche": "a library of Rust without a server binding for Python; quinn, of Rust too, serves in its place",
    "gquic": "the protocol before RFC 9000, which no client speaks any more; aioquic serves QUIC version 1 and 2",
    "aiopquic": "it brings a socket and a thread of its own; quinn and qh3, as fast, serve in its place",
}
"""Backends that a configuration may name and that are not here, each with what serves in its place."""

UNSHOWN: Final = frozenset({"cert_chain", "private_key"})
"""Keys that no answer has."""

Byte = Annotated[int, Meta(ge=0, le=255)]


class Settings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[quic]``: where QUIC is served, with which certificate, within which limits.

    ``cert_path`` and ``key_path`` are PEM files; where neither is there, those of ``[tls]`` serve. ``cert_chain`` and
    ``private_key`` are the same in DER, each byte a number, and go first. ``max_connections`` counts for each process.
    Browsers are served the console on ``ui_bind_addr``, None for not by QUIC. ``max_idle_timeout_ms`` ends a connection
    without a word from the client; every ``keep_alive_interval_ms`` one on which a request runs is pinged, 0 is never.

    ``enable_0rtt`` lets clients resume a session, ``enable_early_data`` lets the first flight of such a client carry
    requests. ``mode`` is where it runs: in ``workers`` processes of its own, or in every HTTP worker.
    ``max_datagram_size`` is in bytes of UDP payload. ``pacing`` spreads datagrams over the round trip: ``auto`` does so
    where that is longer than a local network's. ``alternative_port`` is announced to clients of TCP in place of that
    of ``bind_addr``, for who forwards ports; 0 announces nothing. ``test_targets`` are the addresses ``host:port`` that
    the routes of ``/api/quic`` may connect to, besides this server itself.
    """

    backend: str = "aioquic"
    bind_addr: str = "0.0.0.0:5443"
    ui_bind_addr: str | None = None
    cert_path: str = "./certs/server.crt"
    key_path: str = "./certs/server.key"
    cert_chain: tuple[tuple[Byte, ...], ...] = ()
    private_key: tuple[Byte, ...] = ()
    max_connections: Annotated[int, Meta(ge=1)] = 1000
    max_idle_timeout_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 60_000
    keep_alive_interval_ms: Annotated[int, Meta(ge=0)] = 30_000
    application_protocols: tuple[str, ...] = (MESSAGES,)
    enable_0rtt: bool = False
    enable_early_data: bool = False
    mode: Literal["process", "inline"] = "process"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_datagram_size: Annotated[int, Meta(ge=1200, le=1452)] = 1452
    pacing: Literal["auto", "on", "off"] = "auto"
    alternative_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    test_targets: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError for what cannot be served, which in a table that is off does not matter."""
        if self.backend not in BACKENDS:
            reason = INSTEAD.get(self.backend, f"no such backend; there are {', '.join(BACKENDS)}")
            message = f"backend: {self.backend!r}: {reason}"
            raise ValueError(message)
        if find_spec(MODULES[self.backend]) is None:
            message = f"backend: {self.backend!r} is not installed; {INSTALLED_BY[self.backend]}"
            raise ValueError(message)
        if self.backend == "qh3":
            self._check_qh3()
        port = self.bind_addr.rpartition(":")[2]
        if self.ui_bind_addr is not None and port != "0" and self.ui_bind_addr.endswith(f":{port}"):
            message = f"ui_bind_addr: {port} is the port of bind_addr; the console needs one of its own"
            raise ValueError(message)
        for name in self.application_protocols:
            if name not in {HTTP3, MESSAGES}:
                message = f"application_protocols: {name!r} is not spoken here; {HTTP3} and {MESSAGES} are"
                raise ValueError(message)
        if self.enable_early_data and not self.enable_0rtt:
            message = "enable_early_data: needs enable_0rtt, since only a resumed session has a key for early data"
            raise ValueError(message)
        if bool(self.cert_chain) != bool(self.private_key):
            message = "cert_chain and private_key belong together"
            raise ValueError(message)

    def _check_qh3(self) -> None:
        if self.enable_0rtt:
            message = "enable_0rtt: not with the backend 'qh3', which ends connections of quic-go that use it"
            raise ValueError(message)
        if self.workers > 1:
            message = "workers: the backend 'qh3' has one, since its connection ids do not name a process"
            raise ValueError(message)

    @property
    def alpn(self) -> list[str]:
        """The protocols that a client may choose from, the preferred one first."""
        return [HTTP3, *(name for name in self.application_protocols if name != HTTP3)]

    @property
    def processes(self) -> int:
        """How many processes of its own the transport has; 0 is none, it then runs in every HTTP worker."""
        return self.workers if self.mode == "process" else 0

    @property
    def idle_seconds(self) -> float:
        """After how many seconds without a word a connection ends."""
        return self.max_idle_timeout_ms / 1000

    def shown(self) -> dict[str, Any]:
        """Returns the settings without secrets, as ``/api/quic/config`` has them."""
        names = [name for name in Settings.__struct_fields__ if name not in UNSHOWN]
        return {name: getattr(self, name) for name in names}


class TransportConfig(Settings, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[quic]`` as the transport reads it, which is opened only where QUIC is wanted."""

    enabled: bool = False

    def __post_init__(self) -> None:
        if self.enabled:
            self.check()


class FeatureConfig(Settings, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[quic]`` as the feature reads it, which is always opened: that QUIC is off is an answer, too."""

    wanted: bool = field(default=False, name="enabled")
