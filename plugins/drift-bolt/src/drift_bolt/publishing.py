"""Publishes versions and takes them away: first the artifact, then the version in the database, then its tag.

The database says which number comes next and what a tag has to name. Whoever dies in between leaves a version that
nobody sees, whose tag is set by the next one who looks (`Publisher.finish`). So versions have no gaps and no doubles,
and one that is seen can be pulled.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Connection

from drift_bolt import artifacts, catalog
from drift_bolt.artifacts import Content, Document, repository_of
from drift_bolt.catalog import Draft, Entry, File, Kind, Version, draft_of, plugin_draft, profile_draft
from drift_bolt.model import PluginUpload, ProfileUpload
from drift_bolt.problems import OURS, Unknown
from drift_bolt.profile_toml import to_toml
from drift_core.api import (
    EVERYTHING,
    Access,
    Audit,
    AuditEvent,
    Digest,
    Identity,
    LocalRegistry,
    Records,
    RegistryError,
)

ABANDONED_SECONDS: Final = 60.0
"""Seconds after which whoever reserved a version is taken for dead."""

CHUNK: Final = 1 << 20

ATTEMPTS: Final = 50
"""How often a tag is set while others add platforms to its version."""


class Publisher:
    """Publishes in the name of whoever asks. Safe to use by many tasks and processes at once."""

    def __init__(self, records: Records, access: Access, audit: Audit) -> None:
        self._records = records
        self._access = access
        self._audit = audit

    async def profile(
        self,
        registry: LocalRegistry,
        upload: ProfileUpload,
        author: str,
        identity: Identity | None = None,
        *,
        mirror: tuple[str, str] | None = None,
        only_new: bool = False,
    ) -> Version:
        """Publishes the next version of a profile that is valid. Raises `Denied`, and what a push would meet.

        ``mirror`` is from which registry it comes, and its version there. With ``only_new`` it raises `Published` where
        there is a profile of the name.
        """
        toml = to_toml(upload.profile)
        repository = repository_of("profile", upload.profile.name)
        content = Content(
            artifacts.PROFILE,
            artifacts.PROFILE_CONFIG,
            msgspec.json.encode({"author": author, **msgspec.to_builtins(upload)}),
            artifacts.PROFILE_TOML,
            Digest.of(toml),
            len(toml),
            f"{upload.profile.name}.toml",
            artifacts.annotations_of(upload.profile.name, upload.profile.description, author),
        )
        # What comes from nobody's request is new, or belongs to the registry that it comes from.
        ours = only_new or mirror is not None
        may_all = ours or await self._check_owner("profile", upload.profile.name, author, identity)
        file = await artifacts.push(registry, repository, content, artifacts.once(toml))
        draft = profile_draft(upload, author, file)
        if mirror is not None:
            draft = msgspec.structs.replace(draft, mirror=mirror[0], version=mirror[1])
        return await self._publish(registry, draft, identity, may_all=may_all, only_new=only_new)

    async def plugin(
        self,
        registry: LocalRegistry,
        upload: PluginUpload,
        library: IO[bytes],
        digest: Digest,
        size: int,
        platform: str,
        author: str,
        identity: Identity | None,
    ) -> Version:
        """Publishes a version of a plugin, or adds a platform to it. Raises `Denied`, `Published`, and as `profile`."""
        manifest = upload.manifest
        content = Content(
            artifacts.PLUGIN,
            artifacts.PLUGIN_MANIFEST,
            msgspec.json.encode(manifest),
            artifacts.PLUGIN_BINARY,
            digest,
            size,
            manifest.entry_point,
            artifacts.annotations_of(manifest.name, manifest.description, author),
        )
        repository = repository_of("plugin", manifest.name)
        may_all = await self._check_owner("plugin", manifest.name, author, identity)
        file = await artifacts.push(registry, repository, content, _chunks(library), platform)
        draft = plugin_draft(upload, author, file)
        return await self._publish(registry, draft, identity, may_all=may_all)

    async def _check_owner(self, kind: Kind, name: str, author: str, identity: Identity | None) -> bool:
        """Returns whether somebody may change what is others'. Raises `Denied` before anything is pushed."""
        may_all = (await self._access.verdicts(identity, [EVERYTHING]))[0]
        if not may_all:
            await self._records.read(partial(catalog.check_owner, kind=kind, name=name, author=author))
        return may_all

    async def _publish(
        self,
        registry: LocalRegistry,
        draft: Draft,
        identity: Identity | None,
        *,
        may_all: bool,
        only_new: bool = False,
    ) -> Version:
        """Reserves a version, sets its tag, and shows it."""

        def reserve(db: Connection) -> Version:
            version = catalog.reserve(db, draft, index_digest, may_all=may_all, only_new=only_new)
            self._audit.record(db, _event("Published", draft.kind, draft.name, version.version, draft.author, identity))
            return version

        version = await self._records.write(reserve)
        return await self._settle(registry, draft, version)

    async def _settle(self, registry: LocalRegistry, draft: Draft, version: Version) -> Version:
        """Points the tag at what the database says, which others may change meanwhile, until both agree."""
        repository = repository_of(draft.kind, draft.name)
        for _ in range(ATTEMPTS):
            document = await self._document(registry, draft.kind, repository, version)
            if document.digest == version.digest:
                try:
                    tags = [version.version]
                    await registry.push_manifest(
                        repository, document.content, document.media_type, document.digest, tags
                    )
                except RegistryError:
                    # Where others have changed the version, the gate refuses what it was before.
                    if (await self._now(version)).digest == version.digest:
                        raise
            now = await self._now(version)
            tagged = (await registry.tagged(repository, [now.version])).get(now.version)
            # What the version says by now: others may have added platforms to it.
            shown = msgspec.structs.replace(draft_of(draft.kind, now, draft.file), author=draft.author)
            if tagged == now.digest and await self._records.write(partial(catalog.publish, version=now, draft=shown)):
                return now
            version = now
        raise Unknown(f"{draft.name} {version.version} changes all the time", name=draft.name)

    async def _now(self, version: Version) -> Version:
        now = await self._records.read(partial(catalog.current, version=version))
        if now is None:
            raise Unknown("the version was deleted meanwhile", version=version.version)
        return now

    async def _document(self, registry: LocalRegistry, kind: Kind, repository: str, version: Version) -> Document:
        if kind == "profile":
            media_type, content = await registry.manifest(repository, Digest.parse(version.digest))
            return Document(content, media_type)
        return artifacts.index_of(
            await self._records.read(partial(catalog.files, entry=version.entry, number=version.number))
        )

    async def finish(self, registry: LocalRegistry, seconds: float = ABANDONED_SECONDS) -> int:
        """Sets the tags of versions that somebody has left, and returns of how many.

        What cannot be pushed any more, since nobody tagged it for too long or a gate refuses it, is forgotten; of a
        version that was published before, only the platform is that it was to get.
        """
        found = await self._records.read(partial(catalog.unfinished, before=time.time() - seconds))
        for entry, version, files in found:
            draft = draft_of(entry.kind, version, files[0])
            try:
                await self._settle(registry, draft, version)
            except RegistryError as error:
                if error.status >= OURS:
                    raise
                if not await self._withdraw(registry, entry, version):
                    forget = partial(catalog.forget, kind=entry.kind, name=entry.name, gone=[version.version])
                    await self._records.write(forget)
        return len(found)

    async def _withdraw(self, registry: LocalRegistry, entry: Entry, version: Version) -> bool:
        """Takes back a platform that a published version cannot get, such as where its tag is immutable.

        False where the version was never published, or its tag is gone.
        """
        repository = repository_of(entry.kind, entry.name)
        digest = (await registry.tagged(repository, [version.version])).get(version.version)
        if not version.published or digest is None:
            return False
        content = (await registry.manifest(repository, digest))[1]
        index = msgspec.json.decode(content, type=dict[str, Any])
        kept = {str(one["digest"]) for one in index.get("manifests", ())}
        withdraw = partial(catalog.withdraw, version=version, digest=str(digest), kept=kept)
        await self._records.write(withdraw)
        return True

    async def delete(
        self, registry: LocalRegistry, kind: Kind, name: str, author: str, identity: Identity | None
    ) -> None:
        """Takes every version away. Raises `Denied`, also where a tag is immutable; `Unknown`.

        The bytes stay until nothing reaches them and they are collected.
        """
        entry = await self._records.read(partial(catalog.find, kind=kind, name=name))
        await self._check_owner(kind, name, author, identity)
        repository = repository_of(kind, name)
        async for tag in registry.tags(repository):
            if await self._records.read(partial(catalog.digest_of, kind=kind, name=name, version=tag.name)):
                await registry.delete_tag(repository, tag.name, tag.digest)

        def forget(db: Connection) -> None:
            catalog.forget(db, kind, name, None)
            self._audit.record(db, _event("Deleted", kind, name, entry.version, author, identity))

        await self._records.write(forget)

    async def untagged(self, registry: LocalRegistry, kind: Kind, name: str, tags: Sequence[str]) -> None:
        """Forgets versions whose tags others have deleted."""
        left = await registry.tagged(repository_of(kind, name), tags)
        if gone := [tag for tag in tags if tag not in left]:
            await self._records.write(partial(catalog.forget, kind=kind, name=name, gone=gone))


def index_digest(files: Sequence[File]) -> str:
    """Returns what the tag of a plugin has to name."""
    return str(artifacts.index_of(files).digest)


def _event(done: str, kind: Kind, name: str, version: str, author: str, identity: Identity | None) -> AuditEvent:
    return AuditEvent(
        type=f"{kind.capitalize()}{done}",
        identity=identity,
        username=author,
        resource_type=kind.capitalize(),
        resource_id=name,
        tag=version,
    )


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, 0)
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        yield chunk
