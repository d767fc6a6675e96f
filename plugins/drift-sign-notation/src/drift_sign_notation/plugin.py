"""Offers the format ``notary-v2`` to sign and to judge; imports nothing heavy until one of them is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Signer, Verifier, hookimpl
from drift_sign_notation.config import SigningConfig


def open_signer(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Signer]:
    """Opens the signer; cryptography is imported here."""
    from drift_sign_notation.signer import open_signer

    return open_signer(config.of("notary-v2"), services)


def open_verifier(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Verifier]:
    """Opens the verifier; cryptography is imported here."""
    from drift_sign_notation.verifier import open_verifier

    return open_verifier(config.of("notary-v2"), services)


@hookimpl
def drift_signers() -> Iterable[Driver[Signer]]:
    """Offers the format by the name that the configuration has for it, where ``[signing] enabled = true``."""
    return [Driver("notary-v2", SigningConfig, open_signer)]


@hookimpl
def drift_verifiers() -> Iterable[Driver[Verifier]]:
    """Offers to judge it: ``[signing] signature_formats = ["notary-v2"]``."""
    return [Driver("notary-v2", SigningConfig, open_verifier)]
