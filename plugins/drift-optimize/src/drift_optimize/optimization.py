"""The feature as the core sees it: hears of pushes, works on images beside requests, and answers what came of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

import msgspec

from drift_core.api import (
    Action,
    AuditEvent,
    Digest,
    Event,
    LocalRegistry,
    ManifestUnknown,
    RegistryError,
    Services,
    StartError,
    Unavailable,
    UsesRegistry,
    pages,
)
from drift_optimize import jobs
from drift_optimize.config import OptimizationConfig
from drift_optimize.confined.jobs import MIB
from drift_optimize.flattening import Flattener
from drift_optimize.forming import Former
from drift_optimize.images import INDEXES, MANIFESTS, OCI_CONFIG, TO_OCI
from drift_optimize.inspecting import inspector
from drift_optimize.jobs import Job
from drift_optimize.lineage import Lineage, Standing
from drift_optimize.measures import Measures
from drift_optimize.optimizing import Optimizing, Outcome, Progress
from drift_optimize.pages import pages_over
from drift_optimize.publishing import withdraw
from drift_optimize.report import images_of
from drift_optimize.routes import routes_over
from drift_optimize.schedule import next_after

LOOK_SECONDS = 1.0
"""Seconds between two looks for work, and whether it was cancelled."""

NOTE_SECONDS = 5.0
"""Seconds between two notes of how far a job has come, each of which empties caches of all nodes."""

ABANDONED_SECONDS = 30.0
"""Seconds without a note after which nobody works on a job any more: a command that was killed."""

REST_SECONDS = 0.1
"""Seconds between two layers in the background."""

FORGET_SECONDS = 3600.0
"""Seconds between two removals of what ended long ago."""

CONFIGS = frozenset({None, OCI_CONFIG, *(kind for kind, oci in TO_OCI.items() if oci == OCI_CONFIG)})
"""What the artifact type of an image is: that of its configuration, or none."""

GONE = 404

SUBSCRIBED: Final[tuple[Action, ...]] = ("manifest.push", "manifest.delete", "tag.delete")


class Optimization(UsesRegistry):
    """Its commands and routes work on ``records`` and `ask`; `optimize` works on one image."""

    name = "optimization"

    def __init__(self, config: OptimizationConfig, services: Services) -> None:
        self.config = config
        self.records = services.records
        unknown = [name for name in config.wanted_forms if name not in services.optimizers]
        if unknown:
            known = ", ".join(sorted(services.optimizers)) or "none"
            message = f"optimization.forms: no optimizer {unknown[0]!r} is installed; there are {known}"
            raise StartError(message)
        if config.preferred_compression in ("lz4", "brotli") and config.forms is None:
            services.log.warning(
                "no form of layers is made: this compression has no media type of layers, it is for content at rest",
                preferred_compression=config.preferred_compression,
            )
        self.subscribed: Collection[Action] = SUBSCRIBED
        self._audit = services.audit
        self._log = services.log
        self._measures = Measures(services.metrics)
        former = Former(config, services.records, services.optimizers, inspector(config), services.log)
        flattener = Flattener(config, services.records)
        self._lineage = Lineage(services.records)
        self._optimizing = Optimizing(config, former, flattener, self._lineage, self._rest)
        self._asked = asyncio.Event()

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    def routes(self) -> Sequence[Any]:
        """Returns the handlers below ``/admin/optimize``."""
        return routes_over(self)

    async def on_event(self, event: Event) -> None:
        """Makes an image that was pushed a job, and forgets that of one that is gone; see `Subscriber`."""
        if event.digest is None:
            return
        if event.action == "tag.delete":
            await self._withdraw(event)
        elif event.action == "manifest.delete":
            await self._withdraw(event)
            await self.records.write(partial(jobs.forget, repository=event.repository, digest=event.digest))
        elif self._is_ours(event):
            await self.ask(event.repository, Digest.parse(event.digest), " ".join(event.tags) or None, self._due())
        elif event.artifact_type not in CONFIGS:
            # What a tag names now is no image.
            for tag in event.tags:
                await withdraw(self.registry, event.repository, tag, self._optimizing.forms)

    async def _withdraw(self, event: Event) -> None:
        """Removes the tags of forms beside tags that are gone."""
        left = await self.registry.tagged(event.repository, event.tags)
        for tag in event.tags:
            if tag not in left:
                await withdraw(self.registry, event.repository, tag, self._optimizing.forms)

    def _is_ours(self, event: Event) -> bool:
        """Says whether an event may be of an image: the work itself looks at it again."""
        image = event.media_type in MANIFESTS and event.artifact_type in CONFIGS
        kind = self.config.schedule is not None and (image or event.media_type in INDEXES)
        useful = event.subject is None and (event.tags != () or self.config.refers)
        return kind and useful and self.covers(event.repository)

    def covers(self, repository: str) -> bool:
        """Says whether the configuration names a repository."""
        return any(fnmatchcase(repository, glob) for glob in self.config.repositories)

    def _due(self) -> float:
        cron = self.config.optimization_schedule_cron
        if self.config.schedule != "scheduled" or cron is None:
            return 0.0
        return next_after(cron, time.time())

    def policy(self) -> dict[str, Any]:
        """Returns what the configuration says, with the names that the original's API adds."""
        return {
            **msgspec.to_builtins(self.config),
            "optimization_schedule": self.config.schedule or "on request",
            "forms": list(self.config.wanted_forms),
            "min_layer_size_bytes": round(self.config.min_layer_size_mb * MIB),
        }

    async def ask_for(self, repository: str, reference: str | None) -> list[int]:
        """Makes a manifest a job that is due now, or all that tags name; returns the ids.

        Raises:
            ManifestUnknown: there is no such repository, tag or manifest.
        """
        if reference is not None:
            digest = await self._find(repository, reference)
            return [await self.ask(repository, digest, None if ":" in reference else reference)]
        named: dict[Digest, list[str]] = {}
        async for tag in self.registry.tags(repository):
            named.setdefault(tag.digest, []).append(tag.name)
        if not named:
            raise ManifestUnknown(f"{repository} has no tags", name=repository)
        return [await self.ask(repository, digest, " ".join(tags)) for digest, tags in named.items()]

    async def _find(self, repository: str, reference: str) -> Digest:
        """Returns the digest of a manifest by tag or digest. Raises `ManifestUnknown`."""
        if ":" in reference:
            digest = Digest.parse(reference)
            named = {str(name): digest for name in await self.registry.held_manifests(repository, [digest])}
        else:
            named = await self.registry.tagged(repository, [reference])
        if reference not in named:
            raise ManifestUnknown(f"{repository} has no {reference}", name=repository, reference=reference)
        return named[reference]

    async def standing(self, repository: str, reference: str) -> list[Standing]:
        """Returns on which base each image of a manifest stands. Raises `ManifestUnknown`."""
        digest = await self._find(repository, reference)
        return [await self._lineage.standing(image) async for image in images_of(self.registry, repository, digest)]

    async def ask(self, repository: str, digest: Digest, tag: str | None, due_at: float = 0.0) -> int:
        """Makes an image a job, and returns its id; ``due_at`` in seconds since the epoch."""
        job = await self.records.write(partial(jobs.ask, repository=repository, digest=digest, tag=tag, due_at=due_at))
        self._asked.set()
        return job

    async def work(self, registry: LocalRegistry) -> None:
        """See `SupportsBackground`."""
        self._registry = registry
        async with asyncio.TaskGroup() as group:
            for _ in range(self.config.optimization_workers):
                group.create_task(self._work())
            group.create_task(self._forget())

    async def _work(self) -> None:
        while True:
            try:
                job = await self._next()
                if job is not None:
                    await self.optimize(job)
                    continue
            except Unavailable as error:
                self._log.error("work on images stopped, and goes on later", reason=error.message)
            self._asked.clear()
            # Not by wait_for, which loses a cancellation that comes with what it waits for (Python 3.11).
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()

    async def _next(self) -> Job | None:
        """Returns a job that is due and now taken; where none is, nothing is written, which would empty caches."""
        now = time.time()
        if await self.records.read(partial(jobs.due, now=now)) is None:
            return None
        return await self.records.write(partial(jobs.take, now=now))

    async def optimize(self, job: Job, progress: Progress | None = None) -> Outcome:
        """Works on a job that was taken, and writes what came of it; what fails for a while is tried again later."""
        progress = progress or Progress()
        began = time.monotonic()
        outcome = await self._unless_cancelled(job, progress)
        self._measures.seconds.observe(time.monotonic() - began)
        self._measures.read.inc(progress.done)
        # What a form is made of may have been collected before its manifest was there.
        passing = isinstance(outcome, Unavailable) or getattr(outcome, "code", "") == "MANIFEST_BLOB_UNKNOWN"
        if isinstance(outcome, RegistryError) and passing and job.attempts < self.config.max_attempts:
            await self.records.write(partial(jobs.put_off, job=job, message=outcome.message))
            self._log.warning("work on an image is put off", repository=job.repository, reason=outcome.message)
            return Outcome("failed", outcome.message)
        if isinstance(outcome, RegistryError):
            outcome = Outcome("skipped" if outcome.status == GONE else "failed", outcome.message)
        ended = partial(jobs.end, job=job.id, state=outcome.state, message=outcome.message, saved=outcome.saved)
        await self.records.write(ended)
        self._measures.jobs.labels(outcome.state).inc()
        self._measures.saved.inc(max(outcome.saved, 0))
        await self._tell(job, outcome)
        # Whose forms this job may have replaced by its own, before it saw that the tag had moved.
        for tag, names in (await self.registry.tagged(job.repository, (job.tag or "").split())).items():
            if names != job.digest and outcome.state == "optimized":
                await self.ask(job.repository, names, tag)
        return outcome

    async def ended(self, job: int) -> None:
        """Returns when somebody else has worked on a job, or it is gone."""
        found = await self.records.read(partial(jobs.find, job=job))
        while found is not None and found.state in jobs.OPEN:
            await asyncio.sleep(LOOK_SECONDS)
            found = await self.records.read(partial(jobs.find, job=job))

    async def _unless_cancelled(self, job: Job, progress: Progress) -> Outcome | RegistryError:
        """Works on a job until it is done, or somebody has cancelled it."""
        digest = Digest.parse(job.digest)
        doing = self._optimizing.run(self.registry, job.repository, digest, (job.tag or "").split(), progress)
        work = asyncio.create_task(doing)
        watch = asyncio.create_task(self._watch(job, progress))
        try:
            await asyncio.wait([work, watch], return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else Outcome("skipped", "it was cancelled")
        except RegistryError as error:
            return error
        except Exception as error:  # noqa: BLE001 - it is told in the log, and of the job
            # An image of anybody, or an optimizer of a third party, must not stop the work on others.
            self._log.exception("work on an image failed", repository=job.repository, digest=job.digest)
            return Outcome("failed", f"{type(error).__name__}: {error}")
        finally:
            for task in (work, watch):
                task.cancel()
            # What the work had started ends before anybody hears that it has.
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _watch(self, job: Job, progress: Progress) -> None:
        """Notes how far a job has come, and returns when it is not to be worked on any more."""
        noted = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(Unavailable):
                found = await self.records.read(partial(jobs.find, job=job.id))
                if found is None or found.state != "optimizing":
                    return
                if time.monotonic() - noted > NOTE_SECONDS:
                    note = partial(jobs.note, job=job.id, done=progress.done, total=progress.total)
                    await self.records.write(note)
                    noted = time.monotonic()

    async def _tell(self, job: Job, outcome: Outcome) -> None:
        self._log.info(
            "worked on an image",
            repository=job.repository,
            digest=job.digest,
            state=outcome.state,
            reason=outcome.message or None,
            saved=outcome.saved,
            published=outcome.published,
        )
        event = AuditEvent(
            type="OptimizationRun",
            severity="error" if outcome.state == "failed" else "info",
            success=outcome.state != "failed",
            reason=outcome.message or None,
            resource_type="Image",
            resource_id=job.repository,
            tag=job.tag,
            digest=job.digest,
            parameters={"state": outcome.state, "saved": outcome.saved, "published": list(outcome.published)},
        )
        await self._audit.note(event)

    async def _rest(self) -> None:
        if self.config.schedule != "immediate":
            await asyncio.sleep(REST_SECONDS)

    async def resume(self) -> None:
        """Makes pending what somebody worked on who is gone."""
        before = time.time() - ABANDONED_SECONDS
        if await self.records.read(partial(jobs.abandoned, noted_before=before)):
            await self.records.write(partial(jobs.resume, most=self.config.max_attempts, noted_before=before))

    async def _forget(self) -> None:
        forgot = -FORGET_SECONDS
        while True:
            with suppress(Unavailable):
                await self.resume()
                counts = await self.records.read(jobs.open_counts)
                self._measures.waiting.set(counts["pending"])
                if time.monotonic() - forgot > FORGET_SECONDS:
                    await self.records.write(jobs.forget)
                    forgot = time.monotonic()
            await asyncio.sleep(ABANDONED_SECONDS)


@asynccontextmanager
async def open_optimization(config: OptimizationConfig, services: Services) -> AsyncIterator[Optimization]:
    """Opens the feature, which starts no process until there is work."""
    yield Optimization(config, services)
