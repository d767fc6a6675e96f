"""Offers the driver ``certificate``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_auth_certificate.config import CertificateConfig
from drift_core.api import Authenticator, Driver, Services, hookimpl


def open_driver(config: CertificateConfig, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    """Opens the authenticator; cryptography is imported here."""
    from drift_auth_certificate.authenticator import open_certificate

    return open_certificate(config, services)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers the one driver of this plugin."""
    return [Driver("certificate", CertificateConfig, open_driver)]
