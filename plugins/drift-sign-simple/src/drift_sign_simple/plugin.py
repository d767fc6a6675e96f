"""Offers the format ``simple`` to sign and to judge; imports nothing heavy until one of them is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Signer, Verifier, hookimpl
from drift_sign_simple.config import SigningConfig


def open_signer(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Signer]:
    """Opens the signer; pysequoia is imported here."""
    from drift_sign_simple.signer import open_signer

    return open_signer(config, services)


def open_verifier(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Verifier]:
    """Opens the verifier; pysequoia is imported here."""
    from drift_sign_simple.verifier import open_verifier

    return open_verifier(config, services)


@hookimpl
def drift_signers() -> Iterable[Driver[Signer]]:
    """Offers to sign, where ``[signing] enabled = true``."""
    return [Driver("simple", SigningConfig, open_signer)]


@hookimpl
def drift_verifiers() -> Iterable[Driver[Verifier]]:
    """Offers to verify, where ``[signing] signature_formats`` has ``simple``."""
    return [Driver("simple", SigningConfig, open_verifier)]
