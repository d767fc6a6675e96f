"""What every process knows of QUIC, also those that do not serve it: the settings, the figures, and where it is."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from drift_core.api import Feature, Records, Services
from drift_quic_aioquic.certificates import configured
from drift_quic_aioquic.config import MESSAGES, FeatureConfig
from drift_quic_aioquic.presence import Counts, Row, node_of, rows, total
from drift_quic_aioquic.routes import routes_over
from drift_quic_aioquic.targets import parse

ANNOUNCED_SECONDS = 86_400
"""How long a client may remember that it can come by HTTP/3."""


class Quic:
    """The feature; ``config`` is the table as it was read."""

    name = "quic"

    def __init__(self, config: FeatureConfig, services: Services) -> None:
        self.config = config
        self._server = services.server
        self._records: Records = services.records

    @property
    def backend(self) -> str:
        """The name of the engine, or why there is none."""
        if not self.config.wanted:
            return "disabled"
        return self.config.backend if all(self.configured()) else "not-configured"

    @property
    def abilities(self) -> Sequence[str]:
        """What a client can do here; the first three are those of the message set."""
        config = self.config
        messages = ["ping", "blob-transfer", "manifest-transfer"] if MESSAGES in config.application_protocols else []
        others = ["http3", "connection-migration", "key-update", "address-validation"]
        resumption = ["0rtt"] if config.enable_0rtt else []
        return [*messages, *others, *resumption, *(["early-data"] if config.enable_early_data else [])]

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Leads clients of TCP here (RFC 7838 section 3)."""
        port = self.config.alternative_port
        return self._announced(parse(self.config.bind_addr)[1] if port is None else port)

    @property
    def site_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Leads browsers of the console to where it is served by QUIC; who forwards ports announces nothing."""
        address = self.config.ui_bind_addr
        forwarded = self.config.alternative_port is not None
        return () if address is None or forwarded else self._announced(parse(address)[1])

    def _announced(self, port: int) -> Sequence[tuple[bytes, bytes]]:
        if not self.config.wanted or not port:
            return ()
        return [(b"alt-svc", b'h3=":%d"; ma=%d' % (port, ANNOUNCED_SECONDS))]

    def configured(self) -> tuple[bool, bool]:
        """Says whether there is a certificate, and whether there is a key."""
        return configured(self.config, self._server)

    async def rows(self) -> Sequence[Row]:
        """Returns what each process of this server has counted, at most a few seconds ago."""
        nodes = [node_of(address) for address in (self.config.bind_addr, self.config.ui_bind_addr) if address]
        return await self._records.read(partial(rows, nodes=nodes))

    async def counts(self) -> Counts:
        """Returns the sums over all processes of this server."""
        return total(await self.rows())

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        return routes_over(self)


@asynccontextmanager
async def open_feature(config: FeatureConfig, services: Services) -> AsyncIterator[Feature]:
    """Yields the feature."""
    yield Quic(config, services)
