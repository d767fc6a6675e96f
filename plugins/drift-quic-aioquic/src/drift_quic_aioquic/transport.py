"""Serves QUIC in one process: its socket, its sweeps, the renewal of its certificate, and its drain."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aioquic.quic.configuration import QuicConfiguration

from drift_core.api import AsgiApp, Services, StartError, Transport, until_quiet
from drift_quic_aioquic.aioquic_session import AioquicEngine
from drift_quic_aioquic.certificates import Certificates, Identity
from drift_quic_aioquic.config import Settings
from drift_quic_aioquic.endpoint import Endpoint
from drift_quic_aioquic.engine import CONNECTION_WINDOW, STREAM_WINDOW, Engine
from drift_quic_aioquic.exchange import NO_ERROR
from drift_quic_aioquic.measures import Measures, value
from drift_quic_aioquic.neighbours import Neighbours, neighbours_of
from drift_quic_aioquic.presence import WRITE_SECONDS, Counts, Presence, node_of
from drift_quic_aioquic.site import Site
from drift_quic_aioquic.tickets import Tickets
from drift_quic_aioquic.udp import Traffic, Udp, bind_udp, route_by_worker

SWEEP_SECONDS: Final = 1.0
RENEWAL_SECONDS: Final = 5.0
"""How often files are looked at that somebody may have renewed."""

CUT_SECONDS: Final = 1.0
"""How long a cancelled request gets to clean up and to answer."""

SILENT_SECONDS: Final = 2.0
"""After so much silence nobody waits for a client to have got its answer when the server stops."""

FAREWELL_SECONDS: Final = 0.05
"""How long a last word has to leave this machine."""


class QuicTransport:
    """HTTP/3 and the message set on ``quic.bind_addr``."""

    def __init__(self, config: Settings, services: Services) -> None:
        self._config = config
        self._services = services
        self._log = services.log
        self._measures = Measures(services.metrics, config.backend)
        self._certificates = Certificates(config, services.server)
        self._identity = self._certificates.load()
        self._counted = Traffic()
        self.endpoint: Endpoint | None = None
        """What serves, while something does."""

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets running requests end for ``drain_seconds``.

        Raises:
            StartError: the address or the certificate cannot be used.
        """
        config, server = self._config, self._services.server
        if config.backend == "qh3" and server.workers > 1:
            message = 'quic.backend: qh3 serves in one process; set quic.mode = "process", or server.workers = 1'
            raise StartError(message)
        engine = self._engine(self._identity)
        neighbours = neighbours_of(config.bind_addr, server.worker, server.workers)
        try:
            if neighbours is not None:
                await neighbours.turn()
            bound = bind_udp(config.bind_addr)
        except BaseException:
            if neighbours is not None:
                neighbours.close()
            raise
        if server.workers > 1 and not route_by_worker(bound):
            self._log.warning("the kernel does not route by connection id; every datagram may take a detour")
        # Another engine keeps its sessions itself.
        kept = config.enable_0rtt and config.backend == "aioquic"
        tickets = Tickets(self._services.records, self._log) if kept else None
        site = Site(app, config, self._log, self._measures, tickets, bound.getsockname()[:2])
        endpoint = Endpoint(site, engine, config.max_connections, neighbours)
        endpoint.udp = Udp(bound, endpoint.arrived, endpoint.resumed)
        self.endpoint = endpoint
        presence = Presence(self._services.records, config.bind_addr, server.worker, self._log)
        try:
            if neighbours is not None:
                _listen(neighbours, endpoint, config.bind_addr)
            ready()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep(endpoint))
                group.create_task(self._renew(endpoint))
                group.create_task(self._tell(presence, endpoint))
        finally:
            try:
                await self._drain(site, endpoint)
            finally:
                endpoint.udp.close()
                if neighbours is not None:
                    neighbours.close()
            await presence.leave()

    def _engine(self, identity: Identity) -> Engine:
        """Returns an engine with a certificate. Raises StartError where that is of no kind that the engine serves."""
        config = self._config
        # Another node with the same key must not be brought to end what this one serves (RFC 9000 section 21.11).
        secret = identity.secret + node_of(config.bind_addr).encode()
        if config.backend == "qh3":
            from drift_quic_aioquic.qh3_session import Qh3Engine  # noqa: PLC0415 - an extra

            return Qh3Engine(identity, config, secret)
        worker = self._services.server.worker & 0xFF
        if config.backend == "quinn":
            from drift_quic_aioquic.quinn_session import QuinnEngine  # noqa: PLC0415 - an extra

            try:
                return QuinnEngine(identity, config, secret, worker)
            except ValueError as error:
                message = f"quic.cert_path: the backend quinn cannot serve with this certificate and key: {error}"
                raise StartError(message) from error
        configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=config.alpn,
            idle_timeout=config.idle_seconds,
            max_data=CONNECTION_WINDOW,
            max_stream_data=STREAM_WINDOW,
            max_datagram_size=config.max_datagram_size,
            # Over a link that is far or loses packets it is faster than aioquic's default (ADR 20).
            congestion_control_algorithm="cubic",
            certificate=identity.chain[0],
            certificate_chain=list(identity.chain[1:]),
            private_key=identity.key,
        )
        return AioquicEngine(
            configuration,
            worker=worker,
            secret=secret,
            tickets=config.enable_0rtt,
            early=config.enable_early_data,
            pacing=config.pacing,
        )

    async def _sweep(self, endpoint: Endpoint) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            endpoint.sweep()
            self._count(endpoint.udp.traffic)

    def _count(self, traffic: Traffic) -> None:
        """Counts what has passed the socket since it was last asked."""
        measures, before = self._measures, self._counted
        for name in ("bytes_sent", "bytes_received", "packets_sent", "packets_received"):
            getattr(measures, name).inc(getattr(traffic, name) - getattr(before, name))
            setattr(before, name, getattr(traffic, name))

    async def _renew(self, endpoint: Endpoint) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            if not await asyncio.to_thread(self._certificates.changed):
                continue
            try:
                identity = await asyncio.to_thread(self._certificates.load)
                endpoint.engine = self._engine(identity)
            except StartError as error:
                self._log.error("the new certificate cannot be used, the old one serves on", reason=str(error))
                continue
            self._log.info("a new certificate serves", subject=identity.chain[0].subject.rfc4514_string())

    async def _tell(self, presence: Presence, endpoint: Endpoint) -> None:
        while True:
            await presence.tell(self._counts(endpoint))
            await asyncio.sleep(WRITE_SECONDS)

    def _counts(self, endpoint: Endpoint) -> Counts:
        traffic, measures = endpoint.udp.traffic, self._measures
        return Counts(
            value(measures.active),
            value(measures.connections),
            traffic.bytes_sent,
            traffic.bytes_received,
            traffic.packets_sent,
            traffic.packets_received,
            value(measures.connection_errors),
            value(measures.stream_errors),
        )

    async def _drain(self, site: Site, endpoint: Endpoint) -> None:
        """Ends everything within ``drain_seconds``, in the order that fails no request (RFC 9114 section 5.2)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._services.server.drain_seconds
        site.draining = True
        for connection in tuple(site.connections):
            connection.goaway(last=False)
        if site.connections:
            await until_quiet(site.quiet_for, deadline)
        for connection in tuple(site.connections):
            connection.goaway(last=True)
        if not await site.empty(deadline):
            self._log.warning("the drain time is over; what still runs is cut", requests=len(site.running))
            site.cut()
            await site.empty(loop.time() + CUT_SECONDS)
        # The last answers are on their way, but may be lost.
        await _sent(site, deadline)
        for connection in tuple(site.connections):
            connection.close(NO_ERROR, "the server stops")
        if site.connections:
            await asyncio.sleep(FAREWELL_SECONDS)
        for connection in tuple(site.connections):
            connection.drop()
        self._count(endpoint.udp.traffic)


async def _sent(site: Site, deadline: float) -> None:
    """Returns when all that was answered has arrived, where somebody still listens, or the time is over."""
    while (now := site.now()) < deadline:
        listening = [one for one in site.connections if now - one.heard_at < SILENT_SECONDS]
        if not any(one.session.path().in_flight for one in listening):
            return
        await asyncio.sleep(FAREWELL_SECONDS)


def _listen(neighbours: Neighbours, endpoint: Endpoint, address: str) -> None:
    try:
        neighbours.listen(endpoint.forwarded)
    except OSError as error:
        message = f"cannot listen on {address} (UDP): another server of this user has it: {error.strerror}"
        raise StartError(message) from error


@asynccontextmanager
async def open_transport(config: Settings, services: Services) -> AsyncIterator[Transport]:
    """Yields the transport; it listens only while it serves. Raises `StartError` for an unusable certificate."""
    yield QuicTransport(config, services)
