"""Keeps pages up to date while somebody looks: one task of a worker asks how far work has come, for all browsers.

They follow by server-sent events (HTML standard, "Server-sent events"); a page loaded anew says the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any

import msgspec
from msgspec import Struct

from drift_core.api import Identity, RegistryError, TooManyRequests, Unavailable, pages
from drift_ui.replies import SECURITY
from drift_ui.sessions import Sessions

LOOK_SECONDS = 1.0
"""Between two looks at what is followed."""

PAGE_SECONDS = 5.0
"""How long a page may take to say what is new."""

KEPT_SECONDS = 5.0
"""Between two signs of life: proxies keep a stream on which nothing happens, a browser that has left without a word is
noticed, and whether who follows still may is asked again."""

TAKEN_SECONDS = 30.0
"""How long a browser may take to take what it was sent."""

AGAIN_MILLISECONDS = 2000
"""After which a browser whose stream has ended asks again."""

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # What nginx would keep until a buffer is full.
    (b"x-accel-buffering", b"no"),
)


class MostLive(Struct, frozen=True):
    """How many streams a worker has at a time at most, and how many of one person, or of one address of nobody."""

    pages: int
    of_one: int

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self.pages > 0 and self.of_one > 0


class Event(Struct, frozen=True):
    """What a browser is told: ``live`` has the part as HTML, the others say it all."""

    name: str
    text: str = ""

    def sent(self) -> bytes:
        """Returns it in the form of the standard; JSON is one line, whatever the text."""
        return b"event: %s\ndata: %s\n\n" % (self.name.encode(), msgspec.json.encode(self.text))


FAILED = Event("failed")
END, REPLACED = Event("end"), Event("replaced")
LAST = (END, REPLACED)
"""Behind these nothing is told any more, and the browser does not ask again by itself."""

ALIVE = b": still here\n\n"

Key = tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], Identity | None, str]


class Follower(Struct, frozen=True):
    """Who follows which page. ``session`` is the id of theirs, None where nobody has to log in.

    ``name`` is by what followers are counted. ``may`` says whether they may still see it; it asks no database.
    """

    page: pages.Page
    asked: pages.Asked
    session: str | None
    name: str
    may: Callable[[], Awaitable[bool]]

    @property
    def key(self) -> Key:
        """What is the same of everybody who is told the same."""
        path, query = sorted(self.asked.path.items()), sorted(self.asked.query.items())
        return (self.page.path, tuple(path), tuple(query), self.asked.identity, self.asked.host)


class Stream:
    """One browser that follows a page, as an answer that goes on; only what is newest waits to be sent."""

    def __init__(self, follower: Follower, receive: Any, leave: Callable[["Stream"], None]) -> None:
        self.follower = follower
        self._receive = receive
        self._leave = leave
        self._next: Event | None = None
        self._woken = asyncio.Event()
        self._over = False

    def tell(self, event: Event) -> None:
        """Sends an event as soon as the browser takes it, in place of one that still waits; nothing behind the end."""
        if self._next not in LAST:
            self._next = event
        self._woken.set()

    def stop(self) -> None:
        """Ends the stream; the browser asks again."""
        self._over = True
        self._woken.set()

    async def send(self, method: str, send: Any) -> None:
        """Sends until the browser leaves, may not see it any more, or the server ends."""
        del method
        listening = asyncio.create_task(self._until_gone())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *SECURITY]})
            # A browser that takes nothing holds its place for a bounded time.
            with suppress(TimeoutError):
                await self._tell_all(send)
        finally:
            self._leave(self)
            listening.cancel()

    async def _tell_all(self, send: Any) -> None:
        loop = asyncio.get_running_loop()
        await _sent(send, b"retry: %d\n\n" % AGAIN_MILLISECONDS)
        due = loop.time() + KEPT_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._woken.wait()
            self._woken.clear()
            event, self._next = self._next, None
            if self._over:
                break
            if loop.time() >= due:
                due = loop.time() + KEPT_SECONDS
                event = event if await self._may() else END
            await _sent(send, ALIVE if event is None else event.sent())
            if event in LAST:
                break
        async with asyncio.timeout(TAKEN_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _may(self) -> bool:
        try:
            return await self.follower.may()
        except RegistryError:
            # Who asks again is told why.
            self.stop()
            return True

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.stop()


async def _sent(send: Any, body: bytes) -> None:
    """Raises TimeoutError where the browser takes nothing."""
    async with asyncio.timeout(TAKEN_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


class _Followed:
    """A page as one or more see it, and what they were told last."""

    def __init__(self, follower: Follower) -> None:
        self.page = follower.page
        self.asked = follower.asked
        self.streams: set[Stream] = set()
        self.last: Event | None = None


class Live:
    """All streams of a worker.

    ``render`` makes HTML of blocks, in a thread; ``failed`` is told of a page that cannot say what is new.
    """

    def __init__(
        self,
        sessions: Sessions,
        render: Callable[[Sequence[pages.Told]], str],
        failed: Callable[[pages.Page, Exception], None],
        stopping: asyncio.Event,
        most: MostLive,
    ) -> None:
        self._most = most
        self._sessions = sessions
        self._render = render
        self._failed = failed
        self._stopping = stopping
        self._streams: dict[Stream, None] = {}
        self._followed: dict[Key, _Followed] = {}
        self._looking: asyncio.Task[None] | None = None

    def follow(self, follower: Follower, receive: Any) -> Stream:
        """Begins a stream, which has to be sent; of too many of one person the oldest ends.

        Raises:
            TooManyRequests: the worker has as many already as there may be.
            Unavailable: the server ends.
        """
        if self._stopping.is_set():
            raise Unavailable("the server is stopping")
        own = [stream for stream in self._streams if stream.follower.name == follower.name]
        if len(own) >= self._most.of_one > 0:
            own[0].tell(REPLACED)
            self._leave(own[0])
        if len(self._streams) >= self._most.pages or not self._most.any:
            raise TooManyRequests("too many pages are kept up to date at a time", retry_after=60)
        stream = Stream(follower, receive, self._leave)
        self._streams[stream] = None
        followed = self._followed.setdefault(follower.key, _Followed(follower))
        followed.streams.add(stream)
        if followed.last is not None:
            stream.tell(followed.last)
        if self._looking is None:
            # Not as a part of the request that happens to come first.
            self._looking = asyncio.create_task(self._look(), context=Context())
        return stream

    def _leave(self, stream: Stream) -> None:
        self._streams.pop(stream, None)
        key = stream.follower.key
        followed = self._followed.get(key)
        if followed is not None:
            followed.streams.discard(stream)
            if not followed.streams:
                del self._followed[key]

    async def _look(self) -> None:
        """Looks as long as anybody follows, and the server serves."""
        try:
            while self._streams and not self._stopping.is_set():
                await asyncio.gather(*(self._refresh(one) for one in list(self._followed.values())), self._log_out())
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._stopping.wait()
        finally:
            self._looking = None
            for stream in self._streams:
                stream.stop()

    async def _refresh(self, followed: _Followed) -> None:
        if followed.page.live is None:
            return
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                blocks = await followed.page.live(followed.asked)
            event = Event("live", await asyncio.to_thread(self._render, blocks))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the others are kept up to date
            event = FAILED
            # Once, not with every look; what is no failure of the page, such as that a job is gone, is none.
            if followed.last is not FAILED and (isinstance(error, Unavailable) or not isinstance(error, RegistryError)):
                self._failed(followed.page, error)
        if event != followed.last:
            followed.last = event
            for stream in followed.streams:
                stream.tell(event)

    async def _log_out(self) -> None:
        """Ends the streams of sessions that have ended; to be followed is no use of one."""
        known = {stream.follower.session for stream in self._streams} - {None}
        try:
            alive = await self._sessions.alive([one for one in known if one is not None])
        except Unavailable:
            # Nothing is told then, either.
            return
        for stream in self._streams:
            if stream.follower.session is not None and stream.follower.session not in alive:
                stream.tell(END)
