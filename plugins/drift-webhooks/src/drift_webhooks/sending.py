"""Tells each target what it still has to be told, by a task of its own, and again where it did not take it."""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial

import httpx
from structlog.typing import FilteringBoundLogger

from drift_core.api import Records, Unavailable
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
"""How often to ask the database all the same."""


class NotTaken(Exception):
    """A target did not take an event; the message says why, and holds no secret. It asks to wait ``seconds``."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Sender:
    """Sends to one target; follows no redirect, which could lead events anywhere."""

    def __init__(self, target: Target) -> None:
        self._target = target
        # A proxy cannot reach this machine under the name that it has for itself.
        self._client = httpx.AsyncClient(
            timeout=target.timeout_seconds, follow_redirects=False, trust_env=not target.stays_here
        )

    async def send(self, event_id: int, body: bytes) -> None:
        """Sends an event. Raises `NotTaken`."""
        headers = headers_of(self._target, event_id, body, time.time())
        try:
            async with (
                asyncio.timeout(self._target.timeout_seconds),
                # What it says is not read: it could be without an end.
                self._client.stream("POST", self._target.url, content=body, headers=headers) as answer,
            ):
                status, pause = answer.status_code, answer.headers.get("retry-after", "")
        except TimeoutError as error:
            raise NotTaken(f"no answer within {self._target.timeout_seconds:g} s") from error
        except httpx.LocalProtocolError as error:
            # A header that cannot be sent stands in its text.
            raise NotTaken("a header cannot be sent") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        if not httpx.codes.is_success(status):
            wait = min(float(pause), LONGEST_SECONDS) if pause.isascii() and pause.isdigit() else 0.0
            raise NotTaken(f"the answer is {status}", wait)

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()


class Feed:
    """One target, as long as this process does the background work."""

    def __init__(
        self,
        name: str,
        target: Target,
        records: Records,
        measures: Measures,
        log: FilteringBoundLogger,
        pause_of: Callable[[int], float] | None = None,
    ) -> None:
        self._name = name
        self._target = target
        self._records = records
        self._measures = measures
        self._log = log.bind(target=name)
        self._pause_of = pause_of or pause_after
        self._misses = 0

    async def run(self) -> None:
        """Sends until cancelled; where the database fails, again after a rest."""
        sender = Sender(self._target)
        try:
            while True:
                try:
                    version = self._records.version()
                    found = await self._records.read(partial(due, target=self._name, now=time.time(), most=BATCH))
                    await self._tell()
                    if found:
                        await self._send(sender, found)
                    else:
                        await self._wait(version)
                except Unavailable as error:
                    self._log.warning("what has to be told cannot be read or written now", reason=error.message)
                    await asyncio.sleep(ASK_SECONDS)
        finally:
            await sender.close()

    async def _send(self, sender: Sender, found: list[Delivery]) -> None:
        """Sends in order, up to one that is not taken; what was taken is forgotten in one transaction."""
        done: list[Delivery] = []
        missed: tuple[Delivery, NotTaken] | None = None
        try:
            for one in found:
                try:
                    await sender.send(one.event_id, one.body)
                except NotTaken as error:
                    missed = one, error
                    break
                done.append(one)
        finally:
            if done:
                self._misses = 0
                self._measures.attempts.labels(self._name, "delivered").inc(len(done))
                await self._records.write(partial(delivered, every=done))
        if missed is not None:
            await self._miss(*missed)

    async def _miss(self, one: Delivery, error: NotTaken) -> None:
        last = one.attempts + 1 >= self._target.attempts
        now = time.time()
        due_at = None if last else now + max(error.seconds, self._pause_of(one.attempts))
        await self._records.write(partial(failed, one=one, problem=str(error), due_at=due_at, now=now))
        self._measures.attempts.labels(self._name, "aside" if last else "failed").inc()
        told = {"event_id": one.event_id, "attempt": one.attempts + 1, "error": str(error)}
        if last:
            self._log.error("an event was put aside: the target did not take it", **told)
        else:
            self._log.warning("the target did not take an event", **told)
        await asyncio.sleep(min(REST_SECONDS, self._pause_of(self._misses)))
        self._misses += 1

    async def _tell(self) -> None:
        (number,) = await self._records.read(partial(counted, targets=[self._name]))
        self._measures.waiting.labels(self._name).set(number.waiting)
        self._measures.aside.labels(self._name).set(number.aside)

    async def _wait(self, version: bytes) -> None:
        until = time.time() + ASK_SECONDS
        moment = await self._records.read(partial(next_due, target=self._name))
        until = min(until, moment or until)
        for _ in range(int(ASK_SECONDS / LOOK_SECONDS)):
            if self._records.version() != version or time.time() >= until:
                return
            await asyncio.sleep(LOOK_SECONDS)


def pause_after(attempts: int) -> float:
    """Returns how long to wait after one attempt more than ``attempts``, in seconds."""
    longest: float = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(attempts, 20))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
