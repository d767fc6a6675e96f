"""The feature as the core sees it: routes, a gate that keeps versions as they were, and the work beside requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection

from drift_bolt import catalog, defaults, figures, packages
from drift_bolt.artifacts import PREFIX, named_by, repository_of
from drift_bolt.binary_data import read_upload
from drift_bolt.catalog import Entry, File, Kind, Version
from drift_bolt.config import BoltConfig
from drift_bolt.confined.looking import Library, Looker
from drift_bolt.containers import Launcher
from drift_bolt.mirroring import Mirror
from drift_bolt.model import PluginUpload, ProfileUpload, Rating
from drift_bolt.pages import pages_over
from drift_bolt.problems import Invalid, Published, Unknown
from drift_bolt.publishing import Publisher
from drift_bolt.routes import routes_over
from drift_bolt.validation import check_plugin, check_profile, check_profile_metadata
from drift_core.api import (
    Action,
    Change,
    Credentials,
    Denied,
    Digest,
    Event,
    Identity,
    LocalRegistry,
    ManifestUnknown,
    RegistryError,
    Services,
    UsesRegistry,
    pages,
)

T = TypeVar("T")

GATED: Final[tuple[Action, ...]] = ("manifest.push",)
SUBSCRIBED: Final[tuple[Action, ...]] = ("manifest.push", "manifest.delete", "tag.delete")

FOLD_SECONDS: Final = 1.0
"""Seconds between two additions of downloads to the sums."""

SLOW_SECONDS: Final = 30.0
"""Seconds between two looks for what others have left, and counts of users."""

ANYBODY: Final = "anonymous"
"""The author where nobody has to log in."""

MIB: Final = 1 << 20


class Bolt(UsesRegistry):
    """Safe to use by many requests at once; `records` are its tables."""

    name = "bolt"

    def __init__(self, config: BoltConfig, services: Services) -> None:
        self.config = config
        self.records = services.records
        self.audit = services.audit
        self.launcher = Launcher(self)
        self.gated: Collection[Action] = GATED
        self.subscribed: Collection[Action] = SUBSCRIBED
        self.publisher = Publisher(services.records, services.access, services.audit)
        # A command that has opened it looks into no library.
        self._looker = Looker(sandbox=config.enable_plugin_sandbox and services.serving)
        self._access = services.access
        self._log = services.log
        self._seen: tuple[int, set[str]] = (0, set())

    def routes(self) -> Sequence[Any]:
        """Returns the handlers below ``/v1``, and those of ``/v2`` that the specification leaves free."""
        return routes_over(self)

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    async def admit(self, change: Change) -> None:
        """Refuses to let the tag of a version name anything else; see `Gate`."""
        named = named_by(change.repository)
        if named is None:
            return
        for tag in change.tags:
            lookup = partial(catalog.digest_of, kind=named[0], name=named[1], version=tag)
            digest = await self.records.read(lookup)
            if digest not in (None, change.digest):
                raise Denied(f"{named[1]} {tag} is published, and stays what it is", name=change.repository, tag=tag)

    async def on_event(self, event: Event) -> None:
        """Forgets versions whose tags were deleted, and knows of packages; see `Subscriber`."""
        named = named_by(event.repository)
        if event.action != "manifest.push" and named is not None:
            await self.publisher.untagged(self.registry, *named, event.tags)
        if not event.repository.startswith(PREFIX):
            await packages.on_event(self.registry, self.records, event)

    async def publish_profile(self, upload: ProfileUpload, identity: Identity | None) -> Version:
        """Publishes the next version of a profile. Raises `Invalid`, `Denied`, and what a push would meet."""
        check_profile(upload.profile, limits=self.config.enable_profile_validation)
        check_profile_metadata(upload.metadata)
        return await self.publisher.profile(self.registry, upload, author_of(identity), identity)

    async def publish_plugin(
        self, body: AsyncIterator[bytes], identity: Identity | None
    ) -> tuple[PluginUpload, Version]:
        """Publishes a plugin from the body of a request. Raises `Invalid`, `Denied`, and what a push would meet."""
        # Not in a thread: a cancelled request would lose the file there, and it is one system call.
        with TemporaryFile() as file:
            upload, reader = await read_upload(body, file, self.config.max_plugin_size_mb * MIB)
            check_plugin(upload.manifest, upload.metadata)
            library = await self._looker.look(file)
            platform = check_platform(upload, library)
            version = await self.publisher.plugin(
                self.registry,
                upload,
                file,
                reader.digest,
                reader.size,
                platform,
                author_of(identity),
                identity,
            )
        return upload, version

    async def version(self, kind: Kind, name: str, version: str | None) -> tuple[Entry, Version, list[File]]:
        """Returns an entry with a version, None for the latest; its downloads are those of this moment.

        Raises `Unknown`.
        """

        def read(db: Connection) -> tuple[Entry, Version, list[File]]:
            entry = catalog.find(db, kind, name)
            downloads = entry.downloads + figures.waiting(db, entry.id)
            return msgspec.structs.replace(entry, downloads=downloads), *catalog.published(db, entry, version)

        return await self.records.read(read)

    async def download(
        self, kind: Kind, name: str, version: str | None, platform: str | None
    ) -> tuple[Version, File, AsyncIterator[bytes]]:
        """Returns a file of a version and its bytes, and counts that. Raises `Unknown`, or a gate's error."""
        entry, found, files = await self.version(kind, name, version)
        file = next((one for one in files if platform in (None, one.platform)), None)
        if file is None:
            raise Unknown(
                f"{name} {found.version} is not there for {platform}", platforms=[one.platform for one in files]
            )
        # Before the answer begins: an error has to be its status.
        content = await _begun(self.registry.blob(repository_of(kind, name), Digest.parse(file.digest)))
        await self.records.write(partial(figures.downloaded, entry=entry.id), concurrent=True)
        return found, file, content

    async def verified(self, registry: LocalRegistry, kind: Kind, name: str, version: str) -> bool:
        """Returns whether the signatures of a version are what the policy of its repository asks for."""
        try:
            return await registry.is_verified(repository_of(kind, name), version)
        except ManifestUnknown:
            # Somebody has just deleted the tag.
            return False

    async def all_verified(self, registry: LocalRegistry, entries: Sequence[Entry]) -> set[str]:
        """Returns the names of those of a page of entries whose latest versions have good signatures."""
        found = await asyncio.gather(*(self.verified(registry, one.kind, one.name, one.version) for one in entries))
        return {one.name for one, good in zip(entries, found, strict=True) if good}

    async def remove(self, kind: Kind, name: str, identity: Identity | None) -> None:
        """Takes every version of an entry away. Raises `Unknown`, `Denied`."""
        await self.publisher.delete(self.registry, kind, name, author_of(identity), identity)

    async def rate(self, kind: Kind, name: str, rating: Rating, identity: Identity | None) -> Entry:
        """Takes somebody's rating, and returns the entry with it. Raises `Unknown`."""

        def write(db: Connection) -> Entry:
            figures.rate(db, catalog.find(db, kind, name), author_of(identity), rating.rating, rating.comment)
            return catalog.find(db, kind, name)

        return await self.records.write(write)

    async def pullable(self, credentials: Credentials, repositories: Sequence[str]) -> list[bool]:
        """Returns from which repositories whoever asks may pull. Raises `Unauthorized` for bad credentials."""
        if not repositories:
            return []
        identity = await self._access.identify(credentials)
        return await self._access.verdicts(identity, packages.pulls_of(repositories))

    async def note(self, identity: Identity | None) -> None:
        """Writes once a day, in each process, that somebody was there."""
        if identity is None:
            return
        today = figures.today()
        if self._seen[0] != today:
            self._seen = (today, set())
        if identity.name not in self._seen[1]:
            self._seen[1].add(identity.name)
            await self.records.write(partial(figures.seen, name=identity.name[:255]))

    async def work(self, registry: LocalRegistry) -> None:
        """Adds up downloads, finishes what others have left, and mirrors; see `SupportsBackground`."""
        self._registry = registry
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(FOLD_SECONDS, self._fold))
            group.create_task(self._every(SLOW_SECONDS, partial(self._tidy, registry)))
            if self.config.default_profiles:
                group.create_task(self._seed(registry))
            if self.config.auto_update_profiles:
                mirror = Mirror(self.config, self.records, self.publisher, self._log)
                seconds = self.config.update_interval_minutes * 60
                group.create_task(self._every(seconds, partial(mirror.run, registry)))

    async def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except RegistryError as error:
                self._log.warning("work on profiles and plugins goes on later", reason=error.message)
            await asyncio.sleep(seconds)

    async def _fold(self) -> None:
        while await self.records.read(figures.anything_waits):
            await self.records.write(figures.fold)

    async def _tidy(self, registry: LocalRegistry) -> None:
        await self.publisher.finish(registry)
        await self.records.write(figures.count_users)

    async def _seed(self, registry: LocalRegistry) -> None:
        """Publishes the default profiles once; where there is one of the same name, that stays."""
        if await self.records.read(defaults.are_wanted):
            for upload in defaults.uploads():
                with suppress(Published):
                    await self.publisher.profile(registry, upload, defaults.AUTHOR, only_new=True)
            await self.records.write(defaults.are_there)


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Returns the same bytes when the first of them are there. Raises what reading them raises."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


def author_of(identity: Identity | None) -> str:
    """Returns by whom a version is published."""
    return ANYBODY if identity is None else identity.name[:255]


def check_platform(upload: PluginUpload, library: Library) -> str:
    """Returns the platform of a library. Raises `Invalid` where the request says another, or Bolt cannot load it."""
    if library.exports is False:
        raise Invalid("the library does not export create_plugin, which Bolt calls")
    named = upload.metadata.supported_platforms
    if library.platform not in named:
        raise Invalid(
            f"the library is for {library.platform}, which supported_platforms does not name",
            platform=library.platform,
            supported_platforms=named,
        )
    return library.platform


@asynccontextmanager
async def open_bolt(config: BoltConfig, services: Services) -> AsyncIterator[Bolt]:
    """Opens the feature. Raises `StartError` where the sandbox is wanted and not there."""
    yield Bolt(config, services)
