"""Offers the transport and the feature ``quic``, and its commands; aioquic is imported when they are opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, Transport, deferred, hookimpl
from drift_quic_aioquic.config import FeatureConfig, TransportConfig

MIGRATIONS = "drift_quic_aioquic.migrations"


def _open_transport(config: TransportConfig, services: Services) -> AbstractAsyncContextManager[Transport]:
    from drift_quic_aioquic.transport import open_transport

    return open_transport(config, services)


def _open_feature(config: FeatureConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    from drift_quic_aioquic.feature import open_feature

    return open_feature(config, services)


def _processes(config: TransportConfig) -> int:
    return config.processes


@hookimpl
def drift_transports() -> Iterable[Driver[Transport]]:
    """Offers ``quic``, which by default has a process of its own: in that of HTTP/1.1 others would wait for it."""
    return [Driver("quic", TransportConfig, _open_transport, MIGRATIONS, processes=_processes)]


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers ``/api/quic``, and the header that leads clients here."""
    return [Driver("quic", FeatureConfig, _open_feature, MIGRATIONS)]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift quic``."""
    return [deferred("quic", "Talk to a registry by QUIC.", "drift_quic_aioquic.commands:quic")]
