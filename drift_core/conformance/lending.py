"""What the core would lend to a driver, for a test that opens one."""

import structlog

from drift_core.api import ServerSettings, Services


def services(plugin: str = "conformance", bind_addr: str = "127.0.0.1:0") -> Services:
    """Returns services that can be pickled, so that a suite may open the driver in another process too."""
    return Services(plugin, structlog.get_logger("drift.plugin"), ServerSettings(bind_addr, 100, 5.0))
