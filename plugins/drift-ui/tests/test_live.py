"""Pages that are kept up to date: one look for everybody, bounds, and an end with session, right or server."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from drift_ui import live as module
from drift_ui.live import END, FAILED, REPLACED, Follower, Live, MostLive

from drift_core.api import Identity, TooManyRequests, Unavailable, pages
from tests.server import DRIFT, Server

from .browsing import Visitor, said
from .conftest import SETTINGS

PATIENCE = 20.0
ANN, BOB = Identity("ann", "test"), Identity("bob", "test")


class Alive:
    """Sessions that have not ended, but those that a test ends."""

    def __init__(self) -> None:
        self.ended: set[str] = set()

    async def alive(self, sessions: Sequence[str]) -> set[str]:
        return set(sessions) - self.ended


class Browser:
    """Somebody who follows a page; it takes what it is sent, unless it ``hangs``."""

    def __init__(self, live: Live, page: pages.Page, identity: Identity = ANN, session: str = "of ann") -> None:
        self.told: list[str] = []
        self.whole = False
        self.allowed = True
        self.hangs = False
        self._leaves = asyncio.Event()
        self._news = asyncio.Event()
        asked = pages.Asked(identity, {}, {}, {}, "registry.test")
        follower = Follower(page, asked, session, identity.name, self._may)
        self._stream = live.follow(follower, self._receive)
        self.task = asyncio.create_task(self._stream.send("GET", self._send))

    async def _may(self) -> bool:
        return self.allowed

    async def _receive(self) -> dict[str, Any]:
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: dict[str, Any]) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if event["type"] == "http.response.body":
            self.whole = not event["more_body"]
            self.told.append(event["body"].decode())
            self._news.set()

    def leave(self) -> None:
        self._leaves.set()

    async def until(self, reached: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not reached(self.told):
                self._news.clear()
                await self._news.wait()

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.task


class Work:
    """A page that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.page = pages.Page("/work", "Work", self._show, live=self._live)

    async def _show(self, _: pages.Asked) -> Sequence[pages.Block]:
        return ()

    async def _live(self, _: pages.Asked) -> Sequence[pages.Told]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return (pages.Text(f"step {self.asked}"),)


class Place:
    """What keeps pages up to date, quicker than it does."""

    def __init__(self, pages_: int = 9, of_one: int = 9) -> None:
        self.sessions = Alive()
        self.failures: list[Exception] = []
        self.stopping = asyncio.Event()
        sessions: Any = self.sessions
        self.live = Live(sessions, _text, self._failed, self.stopping, MostLive(pages_, of_one))

    def _failed(self, _: pages.Page, failure: Exception) -> None:
        self.failures.append(failure)


def _text(blocks: Sequence[pages.Told]) -> str:
    (block,) = blocks
    assert isinstance(block, pages.Text)
    return block.text


def steps(told: Sequence[str]) -> list[str]:
    return [json.loads(one.partition("data: ")[2]) for one in told if one.startswith("event: live")]


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


async def test_one_look_serves_everybody_who_sees_the_same() -> None:
    place, work = Place(), Work()
    first, second = Browser(place.live, work.page), Browser(place.live, work.page)
    await first.until(lambda told: len(steps(told)) >= 5)
    await second.until(lambda told: len(steps(told)) >= 5)
    assert work.asked <= len(steps(first.told)) + 1
    assert set(steps(second.told)[:-1]) <= {f"step {number + 1}" for number in range(work.asked)}
    other = Browser(place.live, work.page, BOB, "of bob")
    await other.until(lambda told: bool(steps(told)))
    for browser in (first, second, other):
        browser.leave()
        await browser.ended()
    await asyncio.sleep(0.05)
    asked = work.asked
    await asyncio.sleep(0.05)
    assert work.asked == asked, "nobody looks any more"
    again = Browser(place.live, work.page)
    await again.until(lambda told: bool(steps(told)))
    again.leave()
    await again.ended()


async def test_what_is_the_same_is_told_once() -> None:
    place = Place()
    asked: list[int] = []

    async def live(_: pages.Asked) -> Sequence[pages.Told]:
        asked.append(1)
        return (pages.Text("nothing happens"),)

    browser = Browser(place.live, pages.Page("/work", "Work", live, live=live))
    async with asyncio.timeout(PATIENCE):
        while len(asked) < 5:
            await asyncio.sleep(0.01)
    assert steps(browser.told) == ["nothing happens"]
    late = Browser(place.live, pages.Page("/work", "Work", live, live=live))
    await late.until(lambda told: steps(told) == ["nothing happens"])
    for one in (browser, late):
        one.leave()
        await one.ended()


async def test_there_is_an_end_to_streams() -> None:
    place, work = Place(3, 2), Work()
    first, second = Browser(place.live, work.page), Browser(place.live, work.page)
    third = Browser(place.live, work.page)
    await first.ended()
    assert (first.told[-2:], first.whole) == ([REPLACED.sent().decode(), ""], True)
    bob = Browser(place.live, work.page, BOB)
    with pytest.raises(TooManyRequests, match="at a time"):
        Browser(place.live, work.page, Identity("cid", "test"))
    for one in (second, third, bob):
        await one.until(lambda told: bool(steps(told)))
        one.leave()
        await one.ended()
    last = Browser(place.live, work.page)
    last.leave()
    await last.ended()


async def test_a_stream_ends_with_its_session() -> None:
    place, work = Place(), Work()
    ann, bob = Browser(place.live, work.page), Browser(place.live, work.page, BOB, "of bob")
    await ann.until(lambda told: bool(steps(told)))
    place.sessions.ended.add("of ann")
    await ann.ended()
    assert (ann.told[-2], ann.told[-1], ann.whole) == (END.sent().decode(), "", True)
    before = len(steps(bob.told))
    await bob.until(lambda told: len(steps(told)) > before + 3)
    bob.leave()
    await bob.ended()


async def test_a_stream_ends_with_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.05)
    place, work = Place(), Work()
    ann = Browser(place.live, work.page)
    await ann.until(lambda told: len(told) > 3)
    ann.allowed = False
    await ann.ended()
    assert ann.told[-2:] == [END.sent().decode(), ""]


async def test_a_stream_on_which_nothing_happens_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.02)
    place = Place()

    async def live(_: pages.Asked) -> Sequence[pages.Told]:
        return (pages.Text("nothing happens"),)

    browser = Browser(place.live, pages.Page("/work", "Work", live, live=live))
    await browser.until(lambda told: told.count(": still here\n\n") > 2)
    browser.leave()
    await browser.ended()


async def test_a_stream_ends_with_the_server_and_the_browser_asks_again() -> None:
    place, work = Place(), Work()
    browser = Browser(place.live, work.page)
    await browser.until(lambda told: bool(steps(told)))
    place.stopping.set()
    await browser.ended()
    assert (browser.told[0], browser.told[-1], browser.whole) == ("retry: 2000\n\n", "", True)
    assert END.sent().decode() not in browser.told
    with pytest.raises(Unavailable):
        Browser(place.live, work.page)


async def test_a_browser_that_takes_nothing_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKEN_SECONDS", 0.05)
    place, work = Place(1), Work()
    browser = Browser(place.live, work.page)
    await browser.until(lambda told: bool(steps(told)))
    browser.hangs = True
    await browser.ended()
    other = Browser(place.live, work.page)
    other.leave()
    await other.ended()


async def test_a_page_that_fails_fails_alone_and_is_told_of_once() -> None:
    place, work, good = Place(), Work(), Work()
    work.page = pages.Page("/broken", "Broken", work.page.show, live=work.page.live)
    broken, whole = Browser(place.live, work.page), Browser(place.live, good.page)
    await broken.until(lambda told: bool(steps(told)))
    work.failure = RuntimeError("a defect")
    await broken.until(lambda told: FAILED.sent().decode() in told)
    before = len(steps(whole.told))
    await whole.until(lambda told: len(steps(told)) > before + 3)
    assert place.failures == [work.failure]
    work.failure = None
    before = len(steps(broken.told))
    await broken.until(lambda told: len(steps(told)) > before)
    for browser in (broken, whole):
        browser.leave()
        await browser.ended()


# Over a real server.


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One in which everybody may follow one page in each of two workers."""
    settings = (*SETTINGS, "ui.live_pages_per_user=1", "server.drain_seconds=300")
    with Server(tmp_path_factory.mktemp("watched"), *settings) as server:
        yield server


@asynccontextmanager
async def following(visitor: Visitor, path: str = "/collection") -> AsyncIterator[tuple[httpx.Response, Any]]:
    """Follows a page as the browser of a visitor would, on a connection of its own."""
    cookies = dict(visitor.http.cookies)
    async with (
        httpx.AsyncClient(base_url=visitor.origin, cookies=cookies, trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", path, headers={"accept": "text/event-stream"}) as answer,
    ):
        yield answer, answer.aiter_lines()


async def until(lines: Any, text: str) -> str:
    async for line in lines:
        if text in line:
            return str(line)
    raise AssertionError(text)


def told_by(line: str) -> str:
    return said(json.loads(line.removeprefix("data: ")))


def visitor_of(server: Server, name: str) -> Visitor:
    visitor = Visitor(server)
    assert visitor.log_in(name).status_code == 303
    return visitor


async def test_work_of_any_process_is_seen_by_who_may(watched: Server) -> None:
    root, ann, stranger = visitor_of(watched, "root"), visitor_of(watched, "ann"), Visitor(watched)
    async with following(root) as (answer, lines):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert "connect-src 'self'" in answer.headers["content-security-policy"]
        assert "Last runs" in told_by(await until(lines, "data: "))
        # In a process that is none of the server's.
        command = [DRIFT, "gc", "run", "--dry-run", *watched.arguments()]
        await asyncio.to_thread(partial(subprocess.run, command, check=True, capture_output=True, timeout=60))
        while ">running<" in (line := await until(lines, "command")):
            pass
        assert "command yes done" in " ".join(told_by(line).split())
    for visitor, path, status in (
        (ann, "/collection", 403),
        (stranger, "/collection", 401),
        (root, "/configuration", 404),
        (root, "/nope", 404),
    ):
        async with following(visitor, path) as (answer, _):
            assert answer.status_code == status, path
    for visitor in (root, ann, stranger):
        visitor.http.close()


async def test_who_logs_out_is_told_no_more(watched: Server) -> None:
    root = visitor_of(watched, "root")
    async with following(root) as (answer, lines):
        assert answer.status_code == 200, await answer.aread()
        await until(lines, "event: live")
        root.post("/logout", {})
        await until(lines, "event: end")
        assert [line async for line in lines if line not in ('data: ""', "")] == []
    root.http.close()


async def test_of_one_person_the_newest_page_counts(watched: Server) -> None:
    root = visitor_of(watched, "root")
    replaced: list[int] = []

    async def follow(number: int) -> None:
        async with following(root) as (answer, lines):
            assert answer.status_code == 200
            await until(lines, "event: replaced")
            replaced.append(number)

    tasks = [asyncio.create_task(follow(number)) for number in range(8)]
    async with asyncio.timeout(PATIENCE):
        # There are two workers.
        while len(replaced) < 6:
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    root.http.close()


async def test_a_page_that_is_left_open_holds_up_no_stop(tmp_path: Path) -> None:
    server = Server(tmp_path, "server.drain_seconds=300", "garbage_collector.enabled=true")
    with server:
        visitor = Visitor(server)
        async with following(visitor) as (answer, lines):
            await until(lines, "event: live")
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert "event: end" not in [line async for line in lines], "the browser comes again"
            assert answer.is_stream_consumed
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0
        visitor.http.close()
    assert "the drain time is over" not in server.log.read_text()
