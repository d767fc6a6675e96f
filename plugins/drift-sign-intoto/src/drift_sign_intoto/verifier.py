"""Opens the verifier: whom cosign's signatures trust attestations trust, too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from drift_sign_cosign.verifier import TrustVerifier, load

from drift_core.api import Services
from drift_sign_intoto.config import SigningConfig
from drift_sign_intoto.verification import claims, judge


@asynccontextmanager
async def open_verifier(config: SigningConfig, services: Services) -> AsyncIterator[TrustVerifier]:
    """Opens the verifier with what a configuration trusts. Raises `StartError`."""
    trust = await load(config, services)
    yield TrustVerifier(config, trust, claims, partial(judge, trust, config.in_toto))
