"""What targets are told, by two libraries of others as judges, and what happens when they do not take it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast

import pytest
from cloudevents.http import from_http
from drift_webhooks import sending
from drift_webhooks.pages import pages_over
from drift_webhooks.queue import Aside, aside, counted, overdue, purge, retry
from drift_webhooks.webhooks import Webhooks
from standardwebhooks import Webhook, WebhookVerificationError

from drift_core.api import Action, Event, LocalRegistry, Records, Unavailable, pages

from .conftest import SECRET, OpenFeature, Receiver

T = TypeVar("T")
DIGEST = f"sha256:{'a' * 64}"
_serial = count(1)


def happened(action: Action = "manifest.push", repository: str = "team/app", **more: Any) -> Event:
    return Event(id=next(_serial), at=1_790_000_000.25, action=action, repository=repository, digest=DIGEST, **more)


@asynccontextmanager
async def working(feature: Webhooks) -> AsyncIterator[None]:
    """Sends in the background, as the one process of a server does that has the lease."""
    work = asyncio.create_task(feature.work(cast("LocalRegistry", None)))
    try:
        yield
        assert not work.done(), "the work has ended by itself"
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


class Away:
    """Records that cannot be read or written, as ``wrong`` says, for as long as it does."""

    def __init__(self, records: Records, wrong: str) -> None:
        self.wrong = wrong
        self.refused = 0
        self._records = records
        self.version = records.version

    async def read(self, query: Callable[[Any], T]) -> T:
        return await self._unless("read", self._records.read(query))

    async def write(self, change: Callable[[Any], T], *, concurrent: bool = False) -> T:
        return await self._unless("write", self._records.write(change, concurrent=concurrent))

    async def _unless(self, kind: str, work: Coroutine[Any, Any, T]) -> T:
        if self.wrong == kind:
            self.refused += 1
            work.close()
            raise Unavailable("the database is away")
        return await work


async def until(done: Callable[[], bool]) -> None:
    """Returns once something is so, or fails."""
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)


async def put_aside(feature: Webhooks) -> list[Aside]:
    return await feature.records.read(aside)


async def nothing_waits(feature: Webhooks) -> None:
    async with asyncio.timeout(20):
        while any(one.waiting for one in await feature.records.read(partial(counted, targets=feature.config.targets))):
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent again is sent again at once."""
    monkeypatch.setattr(sending, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(sending, "LOOK_SECONDS", 0.01)


async def test_what_is_sent_is_read_by_the_libraries_of_others(open_feature: OpenFeature, receiver: Receiver) -> None:
    target = {"url": receiver.url, "secret": SECRET, "headers": {"authorization": "Bearer of the target"}}
    event = happened(tags=("v1", "latest"), size=7, media_type="application/x", actor="ann", subject="sha256:b")
    async with open_feature(source="registry.example.com", targets={"ci": target}) as feature:
        await feature.on_event(event)
        async with working(feature):
            await until(lambda: len(receiver.received) == 1)
    (sent,) = receiver.received
    read = from_http(sent.headers, sent.body)
    assert (read["id"], read["source"], read["type"]) == (str(event.id), "registry.example.com", "drift.manifest.push")
    assert (read["subject"], read["time"]) == (f"team/app@{DIGEST}", "2026-09-21T14:13:20.250000Z")
    assert read.data == {
        "repository": "team/app",
        "digest": DIGEST,
        "tags": ["v1", "latest"],
        "size": 7,
        "mediaType": "application/x",
        "subject": "sha256:b",
        "actor": "ann",
    }
    assert sent.headers["authorization"] == "Bearer of the target"
    assert Webhook(SECRET).verify(sent.body, sent.headers) == sent.event
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(sent.body.replace(b"v1", b"v2"), sent.headers)


async def test_each_target_is_told_what_it_wants(
    open_feature: OpenFeature, receiver: Receiver, other: Receiver
) -> None:
    targets = {
        "ci": {"url": receiver.url, "repositories": ["team/*", "a.b"]},
        "all": {"url": other.url, "actions": ["tag.delete", "blob.push"]},
    }
    async with open_feature(targets=targets) as feature:
        assert set(feature.subscribed) == {"manifest.push", "manifest.delete", "tag.delete", "blob.push"}
        every = [
            happened(),
            happened(repository="a.b"),
            happened(repository="axb"),
            happened(repository="other/team/app"),
            happened("tag.delete"),
            happened("blob.push", "other"),
        ]
        for event in every:
            await feature.on_event(event)
        async with working(feature):
            await nothing_waits(feature)
    assert receiver.ids == [str(every[number].id) for number in (0, 1, 4)]
    assert other.ids == [str(every[number].id) for number in (4, 5)]
    assert "webhook-signature" not in receiver.received[0].headers


async def test_an_event_that_is_told_twice_is_sent_once(open_feature: OpenFeature, receiver: Receiver) -> None:
    event = happened()
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        await feature.on_event(event)
        await feature.on_event(event)
        async with working(feature):
            await nothing_waits(feature)
    assert receiver.ids == [str(event.id)]


@pytest.mark.parametrize("answer", [500, 404, 301, None], ids=["error", "unknown", "redirect", "silence"])
async def test_what_is_not_taken_is_sent_again_and_hinders_nobody(
    open_feature: OpenFeature, receiver: Receiver, other: Receiver, answer: int | None
) -> None:
    receiver.answers = [answer, answer, 200]
    receiver.headers = {"location": other.url}
    targets = {"ci": {"url": receiver.url, "timeout_seconds": 0.3}, "other": {"url": other.url}}
    first, second = happened(), happened()
    async with open_feature(targets=targets) as feature:
        for event in (first, second):
            await feature.on_event(event)
        async with working(feature):
            await nothing_waits(feature)
        assert await put_aside(feature) == []
    assert len(receiver.received) == 4
    assert set(receiver.ids) == {str(first.id), str(second.id)}
    assert other.ids == [str(first.id), str(second.id)]
    marks = {one.headers["webhook-id"] for one in receiver.received}
    assert {mark.split("_")[1] for mark in marks} == {str(first.id), str(second.id)}
    assert len(marks) == 2


async def test_it_waits_as_long_as_the_target_asks(open_feature: OpenFeature, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [503], {"retry-after": "600"}
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        await feature.on_event(happened())
        began = time.time()
        async with working(feature):
            await until(lambda: len(receiver.received) == 1)
            await asyncio.sleep(0.3)
        due = await feature.records.read(partial(sending.next_due, target="ci"))
    assert due is not None
    assert 590 < due - began < 700
    assert len(receiver.received) == 1


async def test_a_target_that_is_not_there_gets_it_later(open_feature: OpenFeature, receiver: Receiver) -> None:
    url = receiver.url
    receiver.close()
    async with open_feature(targets={"ci": {"url": url}}) as feature:
        await feature.on_event(happened())
        async with working(feature):
            async with asyncio.timeout(20):
                while not (await feature.records.read(partial(counted, targets=["ci"])))[0].problem:
                    await asyncio.sleep(0.01)
        (state,) = await feature.records.read(partial(counted, targets=["ci"]))
    assert (state.waiting, state.aside) == (1, 0)
    assert "ConnectError" in state.problem


async def test_after_the_last_attempt_it_is_put_aside_and_can_be_sent_again(
    open_feature: OpenFeature, receiver: Receiver
) -> None:
    receiver.answers = [500]
    event = happened()
    async with open_feature(targets={"ci": {"url": receiver.url, "attempts": 3}}) as feature:
        await feature.on_event(event)
        async with working(feature):
            await nothing_waits(feature)
        assert len(receiver.received) == 3
        (found,) = await put_aside(feature)
        assert (found.target, found.event_id, found.attempts) == ("ci", event.id, 3)
        assert found.problem == "the answer is 500"
        for wrong in ({"target": "other"}, {"event_id": event.id + 1}):
            change = partial(retry, now=time.time(), **{"target": None, "event_id": None, **wrong})
            assert await feature.records.write(change) == 0
        receiver.answers = [200]
        (page,) = pages_over(feature)
        asked = pages.Asked(None, {}, {}, {}, "registry")
        assert page.live is not None
        table = cast("pages.Table", (await page.live(asked))[1])
        assert [row[:3] for row in table.rows] == [("ci", event.id, 3)]
        assert (await page.acts["retry"].do(asked)).message == "1 events are sent again."
        async with working(feature):
            await until(lambda: len(receiver.received) == 4)
            await nothing_waits(feature)
        assert await put_aside(feature) == []


async def test_what_was_put_aside_long_ago_and_targets_that_are_gone_are_forgotten(
    open_feature: OpenFeature, receiver: Receiver
) -> None:
    receiver.answers = [500]
    targets = {name: {"url": receiver.url, "attempts": 1} for name in ("ci", "gone")}
    async with open_feature(targets=targets) as feature:
        await feature.on_event(happened())
        async with working(feature):
            await nothing_waits(feature)
        await feature.on_event(happened())
        write, soon = feature.records.write, time.time() + 60
        assert await write(partial(purge, before=time.time() - 60, targets=["ci", "gone"])) == 0
        # A node with an older configuration does not know it yet.
        assert await write(partial(purge, before=time.time() - 60, targets=["ci"])) == 0
        # What was put aside of each, and what waits for the one that is gone.
        assert await write(partial(purge, before=soon, targets=["ci"])) == 3
        (left,) = await feature.records.read(partial(counted, targets=["ci"]))
        assert (left.waiting, left.aside) == (1, 0)


async def test_what_waits_for_too_long_is_put_aside(open_feature: OpenFeature, receiver: Receiver) -> None:
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        await feature.on_event(happened())
        write = feature.records.write
        assert await write(partial(overdue, added_before=time.time() - 60, now=time.time())) == 0
        assert await write(partial(overdue, added_before=time.time() + 60, now=time.time())) == 1
        (found,) = await put_aside(feature)
        assert (found.attempts, found.problem) == (0, "its turn did not come within a day")


async def test_a_target_that_refuses_an_event_takes_the_next_at_once(
    open_feature: OpenFeature, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_SECONDS", 1000.0)
    receiver.answers = [422, 200]
    first, second = happened(), happened()
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        for event in (first, second):
            await feature.on_event(event)
        async with working(feature):
            await until(lambda: len(receiver.received) == 2)
    assert receiver.ids == [str(first.id), str(second.id)]


async def test_a_connection_is_used_again(open_feature: OpenFeature, receiver: Receiver) -> None:
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        for _ in range(5):
            await feature.on_event(happened())
        async with working(feature):
            await nothing_waits(feature)
    assert len(receiver.received) == 5
    assert len({one.port for one in receiver.received}) == 1


@pytest.mark.parametrize("wrong", ["read", "write"])
async def test_a_database_that_is_away_ends_nothing(
    open_feature: OpenFeature, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Nor does it have the same event sent again and again."""
    monkeypatch.setattr(sending, "ASK_SECONDS", 0.02)
    async with open_feature(targets={"ci": {"url": receiver.url}}) as feature:
        await feature.on_event(happened())
        away = Away(feature.records, wrong)
        monkeypatch.setattr(feature, "records", away)
        async with working(feature):
            await until(lambda: away.refused > 3)
            assert len(receiver.received) == (wrong == "write")
            away.wrong = ""
            await nothing_waits(feature)
    assert len(receiver.received) == 1


async def test_a_defect_with_one_target_does_not_end_the_others(
    open_feature: OpenFeature, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = sending.Sender.send

    async def broken(self: sending.Sender, event_id: int, body: bytes) -> None:
        if self._target.url == receiver.url:
            raise AssertionError
        await send(self, event_id, body)

    monkeypatch.setattr(sending.Sender, "send", broken)
    targets = {"ci": {"url": receiver.url}, "other": {"url": other.url}}
    async with open_feature(targets=targets) as feature:
        await feature.on_event(happened())
        async with working(feature):
            await until(lambda: len(other.received) == 1)
            await feature.on_event(happened())
            await until(lambda: len(other.received) == 2)
    assert receiver.received == []
