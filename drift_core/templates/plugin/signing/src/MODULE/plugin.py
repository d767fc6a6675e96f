"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Signer, Verifier, hookimpl

from ${module}.config import ${prefix}Config


def open_signer(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Signer]:
    """Opens the signer; ``services.log`` already names this plugin."""
    from ${module}.driver import open_signing

    return open_signing(config, services)


def open_verifier(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Verifier]:
    """Opens the verifier."""
    from ${module}.driver import open_signing

    return open_signing(config, services)


@hookimpl
def drift_signers() -> Iterable[Driver[Signer]]:
    """Offers the format ``${name}``, where ``[signing] enabled = true``."""
    return [Driver("${name}", ${prefix}Config, open_signer)]


@hookimpl
def drift_verifiers() -> Iterable[Driver[Verifier]]:
    """Offers to judge it: ``[signing] signature_formats = ["${name}"]``."""
    return [Driver("${name}", ${prefix}Config, open_verifier)]
