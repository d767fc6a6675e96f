"""Offers the format ``in-toto``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Signer, Verifier, hookimpl
from drift_sign_intoto.config import SigningConfig


def open_signer(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Signer]:
    """Opens the signer; cryptography is imported here."""
    from drift_sign_intoto.signer import open_signer

    return open_signer(config.of("in-toto"), services)


def open_verifier(config: SigningConfig, services: Services) -> AbstractAsyncContextManager[Verifier]:
    """Opens the verifier; cryptography is imported here."""
    from drift_sign_intoto.verifier import open_verifier

    return open_verifier(config.of("in-toto"), services)


@hookimpl
def drift_signers() -> Iterable[Driver[Signer]]:
    """Offers to attest, where ``[signing] enabled = true``."""
    return [Driver("in-toto", SigningConfig, open_signer)]


@hookimpl
def drift_verifiers() -> Iterable[Driver[Verifier]]:
    """Offers to verify, where ``[signing] enabled = true``."""
    return [Driver("in-toto", SigningConfig, open_verifier)]
