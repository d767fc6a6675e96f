"""The authenticator: what `Authenticator` promises, by the certificate that the transport has verified."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

from cryptography.x509 import load_pem_x509_certificate
from msgspec import Struct

from drift_auth_certificate.config import CertificateConfig
from drift_auth_certificate.mapping import Owners
from drift_core.api import Authenticator, Credentials, Identity, Scope, Services, StartError, Unauthorized

MOST: Final = 10_000
"""How many certificates are remembered; beyond that the oldest are forgotten."""


class Read(Struct, frozen=True):
    """What was read of a certificate; the times are in seconds since the epoch, both inclusive."""

    owner: Identity | None
    not_before: float
    not_after: float


class CertificateAuthenticator:
    """Believes the transport that a certificate is good, and no header."""

    def __init__(self, config: CertificateConfig) -> None:
        self._owners = Owners(config)
        self._refuses = config.unmapped == "refuse"
        self._known: dict[bytes, Read] = {}

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator.authenticate`; a connection may live longer than its certificate is valid."""
        if credentials.certificate is None:
            return None
        certificate = self._read(credentials.certificate)
        if certificate.owner is None:
            if self._refuses:
                raise Unauthorized("the certificate is nobody's")
            return None
        if not certificate.not_before <= time.time() <= certificate.not_after:
            message = "the certificate is not valid at present"
            raise Unauthorized(message, username=certificate.owner.name)
        return certificate.owner

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """Returns None: the handshake has asked already."""
        del scopes
        return None

    def _read(self, pem: str) -> Read:
        key = sha256(pem.encode()).digest()
        found = self._known.get(key)
        if found is None:
            try:
                certificate = load_pem_x509_certificate(pem.encode())
                begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                found = Read(self._owners.of(certificate), begins.timestamp(), ends.timestamp())
            except ValueError as error:
                raise Unauthorized("the certificate cannot be read") from error
            self._known[key] = found
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]
        return found


@asynccontextmanager
async def open_certificate(config: CertificateConfig, services: Services) -> AsyncIterator[CertificateAuthenticator]:
    """Opens the authenticator. Raises `StartError` where no client can show a certificate."""
    if services.server.client_ca_file is None:
        raise StartError("set tls.client_ca_file to the authorities that sign the certificates of clients")
    yield CertificateAuthenticator(config)


_: type[Authenticator] = CertificateAuthenticator
