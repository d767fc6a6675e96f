"""The queue: asked, taken, put off, cancelled or forgotten in whichever order, nothing is lost or done twice."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from drift_optimize import jobs
from drift_optimize.jobs import LONGEST_RETRY_SECONDS, RETRY_SECONDS, Job
from drift_optimize.tables import jobs as table
from sqlalchemy import update

from drift_core.api import Digest, Records
from drift_core.conformance import open_records

from .conftest import MIGRATIONS

REPOSITORY = "team/app"
NOW = 1_000.0


def digest(number: int = 0) -> Digest:
    return Digest.of(b"%d" % number)


async def ask(records: Records, number: int = 0, tag: str | None = None, due_at: float = 0.0) -> int:
    wish = partial(jobs.ask, repository=REPOSITORY, digest=digest(number), tag=tag, due_at=due_at)
    return await records.write(wish)


async def take(records: Records, now: float = NOW) -> Job:
    job = await records.write(partial(jobs.take, now=now))
    assert job is not None
    return job


async def nothing_is_due(records: Records, now: float = NOW) -> bool:
    return await records.write(partial(jobs.take, now=now)) is None


async def find(records: Records, number: int) -> Job:
    job = await records.read(partial(jobs.find, job=number))
    assert job is not None
    return job


async def test_a_job_from_its_wish_to_its_end(records: Records) -> None:
    number = await ask(records, tag="v1")
    waiting = await find(records, number)
    assert (waiting.state, waiting.attempts, waiting.tag, waiting.began_at) == ("pending", 0, "v1", None)
    job = await take(records)
    assert (job.id, job.state, job.attempts, job.digest) == (number, "optimizing", 1, digest())
    assert job.began_at is not None
    assert await nothing_is_due(records)
    assert await records.write(partial(jobs.note, job=number, done=5, total=10))
    assert await records.read(jobs.open_counts) == {"pending": 0, "optimizing": 1}
    await records.write(partial(jobs.end, job=number, state="optimized", message="why", saved=7))
    ended = await find(records, number)
    assert (ended.state, ended.message, ended.saved, ended.bytes_done, ended.bytes_total) == (
        "optimized",
        "why",
        7,
        5,
        10,
    )
    assert ended.ended_at is not None
    assert not await records.write(partial(jobs.note, job=number, done=6, total=10))
    assert await records.read(jobs.open_counts) == {"pending": 0, "optimizing": 0}


async def test_asked_again_while_it_waits(records: Records) -> None:
    """It is one job, due at the earlier moment; a tag is not lost to a wish that names none."""
    number = await ask(records, tag="v1", due_at=NOW + 100)
    assert await nothing_is_due(records)
    assert await ask(records, due_at=NOW + 200) == number
    assert ((await find(records, number)).due_at, (await find(records, number)).tag) == (NOW + 100, "v1")
    assert await ask(records, tag="v2", due_at=NOW) == number
    job = await take(records)
    assert (job.id, job.tag) == (number, "v1 v2")


async def test_asked_again_while_it_is_worked_on(records: Records) -> None:
    """It is begun again once it has ended, with every tag: the second may not have been there when it began."""
    number = await ask(records, tag="v1")
    before = await take(records)
    assert await ask(records, tag="v2") == number
    assert (await find(records, number)).began_at == before.began_at
    assert await nothing_is_due(records)
    await records.write(partial(jobs.end, job=number, state="optimized", message="", saved=1))
    again = await take(records)
    assert (again.id, again.tag, again.attempts, again.again) == (number, "v1 v2", 1, False)
    await records.write(partial(jobs.end, job=number, state="optimized", message="", saved=1))
    assert (await find(records, number)).state == "optimized"


@pytest.mark.parametrize("state", ["optimized", "skipped", "failed", "cancelled"])
async def test_asked_again_after_it_ended(records: Records, state: jobs.State) -> None:
    """It begins anew, as if nobody had ever tried."""
    number = await ask(records, tag="v1")
    job = await take(records)
    await records.write(partial(jobs.note, job=number, done=1, total=2))
    if state == "cancelled":
        assert await records.write(partial(jobs.cancel, job=number))
    await records.write(partial(jobs.end, job=number, state=state, message="why", saved=9))
    assert (await find(records, number)).state == state
    assert await ask(records) == number
    again = await find(records, number)
    assert (again.state, again.attempts, again.saved, again.message, again.tag) == ("pending", 0, 0, "", None)
    assert (again.bytes_done, again.bytes_total, again.began_at, again.ended_at) == (0, 0, None, None)
    assert again.created_at >= job.created_at
    assert (await take(records)).attempts == 1


async def test_what_is_due_for_the_longest_comes_first(records: Records) -> None:
    dues = [30.0, 10.0, 20.0, 10.0, NOW + 1]
    numbers = [await ask(records, number, due_at=due) for number, due in enumerate(dues)]
    taken = [(await take(records)).id for _ in range(4)]
    assert taken == [numbers[1], numbers[3], numbers[2], numbers[0]]
    assert await nothing_is_due(records)
    assert (await take(records, NOW + 1)).id == numbers[4]


async def test_two_repositories_are_two_jobs(records: Records) -> None:
    first = await ask(records)
    other = partial(jobs.ask, repository="team/other", digest=digest(), tag=None, due_at=0.0)
    assert await records.write(other) != first


async def test_a_rest_doubles_up_to_the_longest(records: Records) -> None:
    number = await ask(records)
    for attempt in range(1, 13):
        job = await take(records, time.time() + 2 * LONGEST_RETRY_SECONDS)
        assert job.attempts == attempt
        before = time.time()
        await records.write(partial(jobs.put_off, job=job, message=f"attempt {attempt}"))
        after = time.time()
        waiting = await find(records, number)
        rest = min(RETRY_SECONDS * 2 ** (attempt - 1), LONGEST_RETRY_SECONDS)
        assert before + rest <= waiting.due_at <= after + rest
        assert (waiting.state, waiting.message) == ("pending", f"attempt {attempt}")
        assert await nothing_is_due(records, before + rest - 1)


async def test_a_wish_ends_a_rest(records: Records) -> None:
    number = await ask(records)
    await records.write(partial(jobs.put_off, job=await take(records), message="later"))
    await ask(records)
    assert (await take(records)).id == number


async def test_cancelled_while_it_waits(records: Records) -> None:
    number = await ask(records)
    assert await records.write(partial(jobs.cancel, job=number))
    assert await nothing_is_due(records)
    assert not await records.write(partial(jobs.cancel, job=number))
    assert not await records.write(partial(jobs.cancel, job=number + 1))


async def test_cancelled_while_it_is_worked_on(records: Records) -> None:
    """Whoever works on it hears of it by its note, and cannot undo it."""
    number = await ask(records)
    job = await take(records)
    assert await records.write(partial(jobs.cancel, job=number))
    assert not await records.write(partial(jobs.note, job=number, done=1, total=1))
    await records.write(partial(jobs.end, job=number, state="optimized", message="", saved=1))
    await records.write(partial(jobs.put_off, job=job, message="later"))
    ended = await find(records, number)
    assert (ended.state, ended.saved) == ("cancelled", 0)
    assert ended.ended_at is not None


async def test_what_a_process_left_is_taken_again(records: Records) -> None:
    left, waiting, ended = [await ask(records, number, due_at=number) for number in range(3)]
    assert (await take(records)).id == left
    await records.write(partial(jobs.take_one, job=ended))
    await records.write(partial(jobs.end, job=ended, state="failed", message="why", saved=0))
    await records.write(partial(jobs.resume, most=3))
    again = await take(records)
    assert (again.id, again.attempts) == (left, 2)
    assert (await take(records)).id == waiting
    assert (await find(records, ended)).state == "failed"


async def test_what_always_ends_its_process_fails(records: Records) -> None:
    """A job that kills whoever works on it would otherwise be begun for ever."""
    number = await ask(records)
    for attempt in (1, 2):
        assert (await take(records)).attempts == attempt
        await records.write(partial(jobs.resume, most=2))
    ended = await find(records, number)
    assert (ended.state, ended.message) == ("failed", "whatever worked on it has ended before it, 2 times")
    assert ended.ended_at is not None


async def test_what_nobody_notes_any_more_is_abandoned(records: Records) -> None:
    """A command that was killed; one that goes on is left alone."""
    dead, alive = [await ask(records, number) for number in range(2)]
    for _ in range(2):
        await take(records)
    await asyncio.sleep(0.01)
    moment = time.time()
    assert await records.write(partial(jobs.note, job=alive, done=1, total=2))
    assert not await records.read(partial(jobs.abandoned, noted_before=0.0))
    assert await records.read(partial(jobs.abandoned, noted_before=moment))
    await records.write(partial(jobs.resume, most=3, noted_before=moment))
    assert ((await find(records, dead)).state, (await find(records, alive)).state) == ("pending", "optimizing")
    assert not await records.read(partial(jobs.abandoned, noted_before=moment))


async def test_only_what_waits_is_taken_by_its_id(records: Records) -> None:
    number = await ask(records, due_at=NOW + 1000)
    assert await records.write(partial(jobs.take_one, job=number)) is not None
    assert await records.write(partial(jobs.take_one, job=number)) is None
    assert await records.write(partial(jobs.take_one, job=number + 1)) is None


async def test_pages_of_jobs(records: Records) -> None:
    numbers = [await ask(records, number) for number in range(5)]
    await take(records)

    async def page(**keys: object) -> list[int]:
        wanted: dict[str, Any] = {"state": None, "before": None, "limit": 2, **keys}
        return [job.id for job in await records.read(partial(jobs.latest, **wanted))]

    assert await page() == [numbers[4], numbers[3]]
    assert await page(before=numbers[3]) == [numbers[2], numbers[1]]
    assert await page(state="optimizing") == [numbers[0]]
    assert await page(state="failed") == []


async def test_a_manifest_that_is_gone_has_no_job(records: Records) -> None:
    numbers = [await ask(records, number) for number in range(2)]
    job = await take(records)
    gone = partial(jobs.forget, repository=REPOSITORY, digest=job.digest)
    await records.write(gone)
    assert await records.read(partial(jobs.find, job=job.id)) is None
    assert not await records.write(partial(jobs.note, job=job.id, done=1, total=1))
    await records.write(partial(jobs.end, job=job.id, state="optimized", message="", saved=1))
    assert await records.read(partial(jobs.find, job=job.id)) is None
    assert (await find(records, numbers[1])).state == "pending"


async def test_what_ended_long_ago_is_forgotten(records: Records) -> None:
    old, young, waiting = [await ask(records, number) for number in range(3)]
    for number in (old, young):
        await records.write(partial(jobs.take_one, job=number))
        await records.write(partial(jobs.end, job=number, state="optimized", message="", saved=0))
    past = time.time() - jobs.KEPT_SECONDS - 1
    await records.write(lambda db: db.execute(update(table).where(table.c.id == old).values(ended_at=past)).rowcount)
    await records.write(
        lambda db: db.execute(update(table).where(table.c.id == waiting).values(created_at=past)).rowcount
    )
    await records.write(jobs.forget)
    found = await records.read(partial(jobs.latest, state=None, before=None, limit=10))
    assert [job.id for job in found] == [waiting, young]


async def test_two_nodes_never_take_the_same(postgresql_url: str) -> None:
    """Also where nothing keeps their transactions apart but the statements themselves."""
    async with open_records(*MIGRATIONS, postgresql_url) as one, open_records(*MIGRATIONS, postgresql_url) as other:
        wanted = {await ask(one, number) for number in range(30)}
        taken: list[int] = []

        async def work(records: Records) -> None:
            while len(taken) < len(wanted):
                job = await records.write(partial(jobs.take, now=NOW), concurrent=True)
                taken.extend([] if job is None else [job.id])

        async with asyncio.timeout(60):
            await asyncio.gather(*(work(records) for records in (one, other) for _ in range(4)))
        assert len(taken) == len(wanted)
        assert set(taken) == wanted
