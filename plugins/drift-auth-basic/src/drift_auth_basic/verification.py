"""Tries passwords, each at most once at a time, in a few threads, and no more often than the throttle lets."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from drift_auth_basic.accounts import Directory
from drift_auth_basic.measures import Measures
from drift_auth_basic.passwords import matches
from drift_auth_basic.remembered import Remembered
from drift_auth_basic.throttle import Throttle
from drift_auth_basic.users import Users
from drift_core.api import Audit, AuditEvent, Identity, TooManyRequests, Unavailable

THREADS: Final = 2
"""How many passwords one worker tries at once: a flood of guesses leaves the other cores to the registry."""

MOST_WAITING: Final = 500
"""How many different credentials wait for a thread at most."""


SOURCE: Final = "basic"
"""What identities say of where they come from."""


class Attempt(Struct, frozen=True):
    """Credentials that somebody sent from an address; ``key`` is that of `Remembered`."""

    key: bytes
    name: str
    password: str
    address: str

    def __repr__(self) -> str:
        return f"Attempt({self.name!r} from {self.address})"


class Verification:
    """Finds out whether credentials are right, and tells whoever has to know."""

    def __init__(
        self,
        directory: Directory,
        users: Users,
        remembered: Remembered,
        throttle: Throttle,
        measures: Measures,
        audit: Audit,
        log: FilteringBoundLogger,
    ) -> None:
        self._directory = directory
        self._users = users
        self._remembered = remembered
        self._throttle = throttle
        self._measures = measures
        self._audit = audit
        self._log = log
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="drift-password")
        self._free = asyncio.Semaphore(THREADS)
        self._running: dict[bytes, asyncio.Task[bool]] = {}

    async def right(self, attempt: Attempt) -> bool:
        """Returns whether the credentials are right; others who ask the same meanwhile get the same answer.

        Raises:
            TooManyRequests: too many wrong ones came before, or too many wait.
            Unavailable: it cannot be found out.
        """
        running = self._running.get(attempt.key)
        if running is None:
            self._admit(attempt)
            if len(self._running) >= MOST_WAITING:
                raise TooManyRequests("too many logins at once")
            running = asyncio.create_task(self._try(attempt))
            self._running[attempt.key] = running
            running.add_done_callback(lambda task: self._forget(attempt.key, task))
        # A client that leaves does not take the answer from the others.
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Ends what runs, and the threads."""
        for task in list(self._running.values()):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    def _forget(self, key: bytes, task: asyncio.Task[bool]) -> None:
        del self._running[key]
        if not task.cancelled():
            # Whoever waits is told of a failure; where all have left, nobody has to be.
            task.exception()

    def _admit(self, attempt: Attempt) -> None:
        try:
            self._throttle.admit(attempt.name, attempt.address)
        except TooManyRequests:
            self._measures.throttled.inc()
            raise

    async def _try(self, attempt: Attempt) -> bool:
        async with self._free:
            # While this one waited, others may have failed, and the user may have been disabled.
            self._admit(attempt)
            account = await self._directory.find(attempt.name)
            hashed = await self._directory.decoy() if account is None else account.hashed
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, matches, attempt.password, hashed)
        right = found and account is not None and not account.disabled
        self._measures.verifications.inc()
        identity = Identity(attempt.name, SOURCE)
        if right:
            self._throttle.succeeded(attempt.name, attempt.address)
            await self._tell_login(identity)
        else:
            self._measures.failures.inc()
            if self._throttle.failed(attempt.name, attempt.address):
                await self._tell_throttled(attempt)
        self._remembered.keep(attempt.key, identity, account, right=right)
        return right

    async def _tell_login(self, identity: Identity) -> None:
        await self._audit.note(
            AuditEvent(type="Login", identity=identity, resource_type="User", resource_id=identity.name)
        )
        try:
            await self._users.logged_in(identity.name)
        except Unavailable as error:
            # Pulls go on while a disk is full; who may log in does not depend on when they last did.
            self._log.warning("the time of a login is not kept", user=identity.name, error=error.message)

    async def _tell_throttled(self, attempt: Attempt) -> None:
        reason = f"too many wrong passwords from {attempt.address}, the last one for {attempt.name}"
        self._log.warning("logins are throttled", user=attempt.name, address=attempt.address)
        await self._audit.note(
            AuditEvent(
                type="SuspiciousActivity",
                severity="warning",
                success=False,
                reason=reason,
                username=attempt.name,
                resource_type="User",
                resource_id=attempt.name,
            )
        )
