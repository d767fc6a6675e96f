"""Tells each target what it still has to be told, by a task of its own, and again where it did not take it."""

import asyncio
import math
import random
import time
from contextlib import suppress
from functools import partial

import httpx
from sqlalchemy.exc import DBAPIError
from structlog.typing import FilteringBoundLogger

from drift_core.api import Records, RegistryError, stays_here
from drift_webhooks.config import Target
from drift_webhooks.measures import Measures
from drift_webhooks.message import headers_of
from drift_webhooks.queue import Delivery, counted, delivered, due, failed, next_due

BATCH = 50
"""Deliveries that are read at a time; what was sent of them is sent again where the process dies."""

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 3600.0
"""Pauses of an event that was not taken: the first, doubled each time, and the longest; before jitter."""

REST_SECONDS = 60.0
"""Longest pause of a target of which nothing is taken, so that it is not asked once for each event."""

LOOK_SECONDS = 0.25
"""How often to look whether anything was committed, which asks no disk."""

ASK_SECONDS = 5.0
"""How often to ask the database all the same, and to count what waits."""

DAY = 86_400.0
"""Seconds for which an event is tried, however rarely its turn comes."""

LONGEST_PROBLEM = 500
LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read, and forgotten."""

PASSING = frozenset({408, 425, 429})
"""Statuses of a client's mistake (RFC 9110 section 15.5) that say nothing of the event."""


class NotTaken(Exception):
    """A target did not take an event; the message says why, and holds no secret. It asks to wait ``seconds``.

    One that is ``alive`` refuses this event, and may take others.
    """

    def __init__(self, message: str, seconds: float = 0.0, *, alive: bool = False) -> None:
        super().__init__(message[:LONGEST_PROBLEM])
        self.seconds = seconds
        self.alive = alive


class Sender:
    """Sends to one target what comes from ``source``; follows no redirect, which could lead events anywhere."""

    def __init__(self, target: Target, source: str) -> None:
        self._target = target
        self._source = source
        # A proxy cannot reach this machine under the name that it has for itself.
        self._client = httpx.AsyncClient(
            timeout=target.timeout_seconds, follow_redirects=False, trust_env=not stays_here(target.url)
        )

    async def send(self, event_id: int, body: bytes) -> None:
        """Sends an event. Raises `NotTaken`."""
        headers = headers_of(self._target, self._source, event_id, body, time.time())
        try:
            async with (
                asyncio.timeout(self._target.timeout_seconds),
                self._client.stream("POST", self._target.url, content=body, headers=headers) as answer,
            ):
                status, pause = answer.status_code, answer.headers.get("retry-after", "")
                # To its end, so that the connection is used again, where that is near.
                left = LONGEST_ANSWER
                async for part in answer.aiter_raw():
                    if (left := left - len(part)) < 0:
                        break
        except TimeoutError as error:
            raise NotTaken(f"no answer within {self._target.timeout_seconds:g} s") from error
        except httpx.LocalProtocolError as error:
            # A header that cannot be sent stands in its text.
            raise NotTaken("a header cannot be sent") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        if not httpx.codes.is_success(status):
            wait = min(float(pause), LONGEST_SECONDS) if pause.isascii() and pause.isdigit() else 0.0
            alive = httpx.codes.is_client_error(status) and status not in PASSING
            raise NotTaken(f"the answer is {status}", wait, alive=alive)

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()


class Feed:
    """One target, as long as this process does the background work."""

    def __init__(
        self, name: str, target: Target, source: str, records: Records, measures: Measures, log: FilteringBoundLogger
    ) -> None:
        self._name = name
        self._target = target
        self._source = source
        self._records = records
        self._measures = measures
        self._log = log.bind(target=name)
        self._misses = 0
        self._told = 0.0
        self._done: list[Delivery] = []
        """What was taken, and waits to be forgotten."""

    async def run(self) -> None:
        """Sends until cancelled; whatever fails begins again after a rest, and hinders no other target."""
        sender = Sender(self._target, self._source)
        try:
            while True:
                try:
                    await self._turn(sender)
                except (RegistryError, DBAPIError) as error:
                    self._log.warning("what has to be told cannot be read or written now", error=str(error))
                    await asyncio.sleep(ASK_SECONDS)
                except Exception as error:  # noqa: BLE001 - a defect with one target must not end the others
                    self._log.exception("telling the target failed and begins again", error=str(error))
                    await asyncio.sleep(REST_SECONDS)
        finally:
            # Another process tells from now on.
            self._measures.waiting.labels(self._name).set(0)
            self._measures.aside.labels(self._name).set(0)
            await sender.close()

    async def _turn(self, sender: Sender) -> None:
        await self._forget()
        version = self._records.version()
        found = await self._records.read(partial(due, target=self._name, now=time.time(), most=BATCH))
        await self._tell()
        if found:
            await self._send(sender, found)
        else:
            await self._wait(version)

    async def _send(self, sender: Sender, found: list[Delivery]) -> None:
        """Sends in order, up to one that is not taken; what was taken is forgotten in one transaction."""
        for one in found:
            try:
                await sender.send(one.event_id, one.body)
            except NotTaken as error:
                await self._forget()
                await self._miss(one, error)
                return
            except asyncio.CancelledError:
                # Who is cancelled has to end, also where the database is away: it is then sent twice.
                with suppress(RegistryError, DBAPIError):
                    await self._forget()
                raise
            self._done.append(one)
            self._misses = 0
        await self._forget()

    async def _forget(self) -> None:
        """Forgets what was taken; before anything else is read, or it would be sent again and again."""
        if self._done:
            await self._records.write(partial(delivered, every=self._done))
            self._measures.attempts.labels(self._name, "delivered").inc(len(self._done))
            self._done = []

    async def _miss(self, one: Delivery, error: NotTaken) -> None:
        now = time.time()
        last = one.attempts + 1 >= self._target.attempts or now - one.added_at > DAY
        due_at = None if last else now + max(error.seconds, pause_after(one.attempts))
        await self._records.write(partial(failed, one=one, problem=str(error), due_at=due_at, now=now))
        self._measures.attempts.labels(self._name, "aside" if last else "failed").inc()
        told = {"event_id": one.event_id, "attempt": one.attempts + 1, "error": str(error)}
        if last:
            self._log.error("an event was put aside: the target did not take it", **told)
        else:
            self._log.warning("the target did not take an event", **told)
        if not error.alive:
            await asyncio.sleep(max(error.seconds, min(REST_SECONDS, pause_after(self._misses))))
            self._misses += 1

    async def _tell(self) -> None:
        if time.monotonic() - self._told < ASK_SECONDS:
            return
        self._told = time.monotonic()
        (number,) = await self._records.read(partial(counted, targets=[self._name]))
        self._measures.waiting.labels(self._name).set(number.waiting)
        self._measures.aside.labels(self._name).set(number.aside)

    async def _wait(self, version: bytes) -> None:
        moment = await self._records.read(partial(next_due, target=self._name))
        until = min(time.time() + ASK_SECONDS, moment or math.inf)
        for _ in range(int(ASK_SECONDS / LOOK_SECONDS)):
            await asyncio.sleep(LOOK_SECONDS)
            if self._records.version() != version or time.time() >= until:
                return


def pause_after(attempts: int) -> float:
    """Returns how long to wait after one attempt more than ``attempts``, in seconds."""
    longest: float = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(attempts, 20))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
