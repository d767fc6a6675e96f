"""The authenticator: what `Authenticator` promises, and the users of whom it knows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from drift_auth_basic.accounts import Account, Directory, Roster
from drift_auth_basic.config import BasicConfig
from drift_auth_basic.hashes import is_hash
from drift_auth_basic.htpasswd import HtpasswdFile
from drift_auth_basic.measures import Measures
from drift_auth_basic.passwords import hash_password
from drift_auth_basic.remembered import Remembered
from drift_auth_basic.scheme import CHALLENGE, REFUSED, is_basic, read
from drift_auth_basic.tally import Tally
from drift_auth_basic.throttle import Throttle
from drift_auth_basic.users import Users
from drift_auth_basic.verification import SOURCE, Attempt, Verification
from drift_core.api import (
    Authenticator,
    Credentials,
    Identity,
    Owner,
    Scope,
    Secret,
    Services,
    StartError,
    SupportsAccounts,
    SupportsStanding,
    Unauthorized,
    is_loopback,
    pages,
)

PUBLISHED: Final = frozenset({"admin:changeme", "ci:tokenonly", "developer:devpass123"})
"""Users of the examples that the original ships: everybody knows their passwords."""


class BasicAuthenticator:
    """Users with passwords, of the configuration, of htpasswd files and of the database."""

    def __init__(
        self,
        directory: Directory,
        users: Users,
        remembered: Remembered,
        verification: Verification,
        measures: Measures,
    ) -> None:
        self.directory = directory
        self.users = users
        self._remembered = remembered
        self._verification = verification
        self._measures = measures

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator.authenticate`. Raises `TooManyRequests` and `Unavailable`, too."""
        authorization = credentials.authorization
        if authorization is None or not is_basic(authorization):
            return None
        key = self._remembered.key(authorization)
        proof = self._remembered.get(key)
        if proof is not None:
            account = await self.directory.find(proof.identity.name)
            if account is proof.account or account == proof.account:
                self._measures.remembered.inc()
                if proof.right:
                    return proof.identity
                raise Unauthorized(REFUSED, username=proof.identity.name)
        name, password = read(authorization)
        if await self._verification.right(Attempt(key, name, password, credentials.client_address)):
            return Identity(name, SOURCE)
        raise Unauthorized(REFUSED, username=name)

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        """See `SupportsStanding`."""
        del credentials
        if identity.source != SOURCE:
            return None
        account = await self.directory.find(identity.name)
        return account is not None and not account.disabled

    async def keeps(self, owner: Owner) -> bool | None:
        """See `SupportsAccounts`."""
        if owner.source is None:
            # By its name alone nobody knows whose it is: of another authenticator, or of no user at all.
            return await self.directory.keeps(owner.name, owner.since)
        return await self.directory.keeps(owner.name, owner.since) is True if owner.source == SOURCE else None

    async def figures(self) -> Sequence[pages.Figure]:
        """See `SupportsFigures`."""
        return (pages.Figure("Users", await self.directory.count(), "who log in with a password"),)

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """See `Authenticator.challenge`; it is the same for every scope."""
        del scopes
        return CHALLENGE


@asynccontextmanager
async def open_basic(
    config: BasicConfig, services: Services, tally: Tally | None = None
) -> AsyncIterator[BasicAuthenticator]:
    """Opens the authenticator, which counts wrong passwords with all that have the same ``tally``; None is alone.

    Raises:
        StartError: an htpasswd file cannot be used, or a password that everybody knows would be good for others.
    """
    _refuse_published(config, services)
    files = [HtpasswdFile(path, services.log) for path in config.htpasswd_files]
    for file in files:
        await file.open()
    configured = await asyncio.to_thread(_roster, config.users)
    users = Users(services.records, services.audit)
    directory = Directory([configured, *files, users])
    measures = Measures(services.metrics)
    remembered = Remembered(config.remember_seconds)
    throttle = Throttle(
        tally or Tally(), config.failures_per_user, config.failures_per_address, config.failure_window_seconds
    )
    verification = Verification(directory, users, remembered, throttle, measures, services.audit, services.log)
    try:
        yield BasicAuthenticator(directory, users, remembered, verification, measures)
    finally:
        await verification.close()


def _roster(users: Sequence[Secret]) -> Roster:
    """Returns the configured users; what is a password is kept as a hash. Blocks for some 30 ms for each of these."""
    pairs = (user.partition(":") for user in users)
    return Roster.of(
        Account(name, password if is_hash(password) else hash_password(password)) for name, _, password in pairs
    )


def _refuse_published(config: BasicConfig, services: Services) -> None:
    names = sorted(user.partition(":")[0] for user in PUBLISHED.intersection(config.users))
    if not names:
        return
    address = services.server.bind_addr
    if not is_loopback(address.rpartition(":")[0]):
        message = f"auth.basic.users: everybody knows the password of {', '.join(names)}, and {address} can be reached"
        raise StartError(f"{message} by others; choose another password, or leave the user out and `drift user add` it")
    services.log.warning("everybody knows a password; change it before others can reach the server", users=names)


_: tuple[type[Authenticator], type[SupportsStanding], type[SupportsAccounts]] = (
    BasicAuthenticator,
    BasicAuthenticator,
    BasicAuthenticator,
)
