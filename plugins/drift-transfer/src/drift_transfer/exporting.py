"""Writes repositories as OCI image layouts, one for each, below one folder: blobs first, and the index at the end."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import IO

import msgspec

from drift_core.api import ALGORITHMS, Digest, Hash, LocalRegistry, RegistryError, StartError, Unavailable
from drift_transfer.documents import REF_NAME, Entry, Index
from drift_transfer.layout import BLOBS, INDEX, MARK
from drift_transfer.source import Failure, Kind
from drift_transfer.tally import Tally

RESERVED = frozenset({BLOBS, INDEX, MARK})
"""Names that a layout has in its folder, in which another repository's therefore cannot lie."""

MARK_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'


class Export:
    """One run. At most ``jobs`` blobs are on their way at a time.

    A file has its name only when it is whole, so that another run goes on from there.
    """

    def __init__(self, registry: LocalRegistry, folder: Path, tally: Tally, jobs: int, *, dry_run: bool) -> None:
        self._registry = registry
        self._folder = folder
        self._tally = tally
        self._slots = asyncio.Semaphore(jobs)
        self._dry_run = dry_run
        self._planned: set[Path] = set()
        """What a dry run would have written of the repository."""

    async def run(self, selection: Sequence[tuple[str, str | None]] = ()) -> None:
        """Writes repositories and tags, where a tag of None is all that a repository has; an empty selection is all.

        A tag brings what refers to its manifest. What cannot be written is in the tally, and the rest goes on.

        Raises:
            Unavailable: the registry itself fails.
            OSError: the folder cannot be written.
        """
        if not selection:
            async for repository in self._registry.repositories():
                await self._write(repository, None)
            return
        chosen: dict[str, set[str] | None] = {}
        for repository, tag in selection:
            tags = chosen.setdefault(repository, set())
            if tag is None or tags is None:
                chosen[repository] = None
            else:
                tags.add(tag)
        for repository, tags in chosen.items():
            await self._write(repository, tags)

    async def _write(self, repository: str, tags: Collection[str] | None) -> None:
        self._tally.repositories += 1
        self._planned.clear()
        layout = self._folder / repository
        if RESERVED.intersection(repository.split("/")):
            reason = f"no layout can lie in a folder named {', '.join(sorted(RESERVED))}"
            self._tally.fail(Failure("repository", repository, repository, str(layout), reason))
            return
        entries: list[Entry] = []
        async for tag, digest in self._wanted(repository, tags):
            entry = await self._write_manifest(repository, layout, digest)
            if tag is not None:
                count = self._tally.tags
                count.copied += entry is not None
                count.failed += entry is None
            if entry is not None:
                entries.append(entry if tag is None else msgspec.structs.replace(entry, annotations={REF_NAME: tag}))
        if entries and not self._dry_run:
            await asyncio.to_thread(_write_index, layout, entries, whole=tags is None)

    async def _wanted(self, repository: str, tags: Collection[str] | None) -> AsyncIterator[tuple[str | None, Digest]]:
        """Yields what the index names: tags, and manifests that nothing else leads to."""
        if tags is None:
            async for tag in self._registry.tags(repository):
                yield tag.name, tag.digest
            async for digest in self._registry.unnamed_manifests(repository):
                yield None, digest
            return
        named = await self._registry.tagged(repository, tags)
        for tag in sorted(tags):
            if tag in named:
                yield tag, named[tag]
            else:
                self._tally.fail(Failure("tag", repository, tag, "", "there is no such tag"))
        subjects, known = list(named.values()), set(named.values())
        for subject in subjects:
            async for descriptor in self._registry.referrers(repository, subject):
                referrer = Digest(descriptor.digest)
                if referrer not in known:
                    known.add(referrer)
                    subjects.append(referrer)
                    yield None, referrer

    async def _write_manifest(self, repository: str, layout: Path, digest: Digest) -> Entry | None:
        """Writes a manifest and all that it needs, and returns its entry, None where that failed."""
        try:
            media_type, content = await self._registry.manifest(repository, digest)
            file = _file(layout, digest)
            if await self._is_there(file):
                # It was written when everything that it needs was there.
                self._tally.manifests.there += 1
                return Entry(media_type, str(digest), len(content))
            references = await self._registry.examine(content, media_type, digest)
        except Unavailable:
            raise
        except RegistryError as error:
            self._fail("manifest", repository, layout, digest, error.message)
            return None
        whole = True
        for child in references.children:
            whole &= await self._write_manifest(repository, layout, child) is not None
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._write_blob(repository, layout, blob, size))
                for blob, size in references.blobs.items()
            ]
        if not (whole and all(task.result() for task in tasks)):
            self._fail("manifest", repository, layout, digest, "what it needs could not be written")
            return None
        if self._dry_run:
            self._planned.add(file)
        else:
            await asyncio.to_thread(_write_whole, file, content)
        self._tally.manifests.copied += 1
        self._tally.bytes += len(content)
        return Entry(media_type, str(digest), len(content))

    async def _write_blob(self, repository: str, layout: Path, digest: Digest, size: int) -> bool:
        async with self._slots:
            file = _file(layout, digest)
            if await self._is_there(file):
                self._tally.blobs.there += 1
                return True
            self._tally.planned += size
            if self._dry_run:
                self._planned.add(file)
            elif not await self._receive(repository, layout, digest, file):
                return False
            self._tally.blobs.copied += 1
            self._tally.bytes += size
            return True

    async def _is_there(self, file: Path) -> bool:
        return file in self._planned or await asyncio.to_thread(file.exists)

    async def _receive(self, repository: str, layout: Path, digest: Digest, file: Path) -> bool:
        part, state = _part(file), ALGORITHMS[digest.algorithm].new()
        output = await asyncio.to_thread(_create, part)
        try:
            with output:
                async for chunk in self._registry.blob(repository, digest):
                    await asyncio.to_thread(_append, output, state, chunk)
                    self._tally.received += len(chunk)
                if state.hexdigest() == digest.encoded:
                    await asyncio.to_thread(_finish, output, part, file)
                    return True
        except Unavailable:
            raise
        except RegistryError as error:
            reason = error.message
        else:
            reason = f"is damaged in the store: the bytes have the digest {digest.algorithm}:{state.hexdigest()}"
        part.unlink()
        self._fail("blob", repository, layout, digest, reason)
        return False

    def _fail(self, kind: Kind, repository: str, layout: Path, digest: Digest, reason: str) -> None:
        self._tally.fail(Failure(kind, repository, str(digest), str(_file(layout, digest)), reason))


def _file(layout: Path, digest: Digest) -> Path:
    return layout / BLOBS / digest.algorithm / digest.encoded


def _part(file: Path) -> Path:
    """Returns where a file is written until it is whole; what an interrupted run left there is written anew."""
    return file.with_name(f".{file.name}.part")


def _create(part: Path) -> IO[bytes]:
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.open("wb")


def _append(output: IO[bytes], state: Hash, chunk: bytes) -> None:
    state.update(chunk)
    output.write(chunk)


def _finish(output: IO[bytes], part: Path, file: Path) -> None:
    output.flush()
    os.fsync(output.fileno())
    part.rename(file)


def _write_whole(file: Path, content: bytes) -> None:
    part = _part(file)
    with _create(part) as output:
        output.write(content)
        _finish(output, part, file)


def _write_index(layout: Path, entries: list[Entry], *, whole: bool) -> None:
    """Writes the index; where that is not ``whole``, what else the layout has stays."""
    if not whole:
        entries = [*_others(layout / INDEX, entries), *entries]
    _write_whole(layout / MARK, MARK_CONTENT)
    _write_whole(layout / INDEX, msgspec.json.encode(Index(entries)))


def _others(file: Path, entries: list[Entry]) -> list[Entry]:
    if not file.exists():
        return []
    try:
        there = msgspec.json.decode(file.read_bytes(), type=Index).manifests
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{file} is no index of a layout: {error}"
        raise StartError(message) from error
    tags = {_tag(entry) for entry in entries} - {None}
    digests = {entry.digest for entry in entries}
    return [
        entry for entry in there if _tag(entry) not in tags and not (_tag(entry) is None and entry.digest in digests)
    ]


def _tag(entry: Entry) -> str | None:
    return (entry.annotations or {}).get(REF_NAME)
