"""Works on one image: has better forms of its layers made, and publishes what they make up beside the original."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct, structs

from drift_core.api import (
    BlobUnknown,
    Descriptor,
    Digest,
    LocalRegistry,
    ManifestUnknown,
    RegistryError,
    Unavailable,
)
from drift_optimize.config import OptimizationConfig
from drift_optimize.flattening import FORM as SQUASHED
from drift_optimize.flattening import Flattener
from drift_optimize.forming import Former
from drift_optimize.images import (
    INDEXES,
    MANIFESTS,
    Formed,
    Image,
    NoImage,
    check_kind,
    read_image,
    write_image,
    write_index,
)
from drift_optimize.lineage import Lineage
from drift_optimize.publishing import Original, publish, push, withdraw
from drift_optimize.results import Result

LARGEST_CONFIG = 8 << 20
"""Bytes of a configuration that is read."""

Ended = Literal["optimized", "skipped", "failed"]


class Outcome(Struct, frozen=True):
    """What came of an image: which digests and tags were published, and how many bytes its layers are smaller."""

    state: Ended
    message: str = ""
    saved: int = 0
    published: tuple[str, ...] = ()


class Progress(Struct):
    """How far the work on an image has come, in bytes of its layers, over all of its forms."""

    done: int = 0
    total: int = 0

    def advance(self, size: int) -> None:
        """Counts bytes that were read."""
        self.done += size


Pause = Callable[[], Awaitable[None]]
"""Waits between two layers, so that others come first."""


class Optimizing:
    """What it pushes is pushed like by any client: gates and immutable tags may refuse it."""

    def __init__(
        self, config: OptimizationConfig, former: Former, flattener: Flattener, lineage: Lineage, pause: Pause
    ) -> None:
        self._config = config
        self._former = former
        self._lineage = lineage if config.enable_base_image_optimization else None
        self._flattener = flattener if config.enable_layer_squashing else None
        self._pause = pause

    async def run(
        self, registry: LocalRegistry, repository: str, digest: Digest, tags: Sequence[str], progress: Progress
    ) -> Outcome:
        """Makes and publishes the forms of an image, or of all images of an index; ``tags`` are some that name it.

        Repeating it changes nothing. Tags of forms of what a tag named before are removed. Raises `RegistryError` where
        it could not go on, such as `Unavailable`.
        """
        media_type, content = await registry.manifest(repository, digest)
        try:
            check_kind(media_type, content)
        except NoImage as reason:
            return Outcome("skipped", str(reason))
        original = Original(repository, Descriptor(media_type, str(digest), len(content)), tuple(tags))
        published: Sequence[str] = ()
        try:
            outcome = await self._run(registry, original, content, progress)
            published = outcome.published
        except Unavailable:
            raise
        except RegistryError:
            await self._tidy(registry, original, published)
            raise
        await self._tidy(registry, original, published)
        return outcome

    async def _tidy(self, registry: LocalRegistry, original: Original, published: Sequence[str]) -> None:
        """Removes tags of forms that were not published now, and those beside a tag that has moved or gone."""
        repository = original.repository
        named = await registry.tagged(repository, original.tags)
        for tag in original.tags:
            if tag in published or named.get(tag) == original.descriptor.digest:
                await withdraw(registry, repository, tag, self.forms, published)
            else:
                # Forms of what it names now, if there are any, are not this image's to remove.
                await withdraw(registry, repository, tag, self.forms, only=published)

    @property
    def forms(self) -> Sequence[str]:
        """The names of all forms that are made."""
        return [*self._config.wanted_forms, *([] if self._flattener is None else [SQUASHED])]

    async def _run(self, registry: LocalRegistry, original: Original, content: bytes, progress: Progress) -> Outcome:
        if not original.tags and not self._config.refers:
            return Outcome("skipped", "no tag names it, and optimization.publish wants no referrers")
        if original.descriptor.media_type in INDEXES:
            return await self._index(registry, original, content, progress)
        try:
            image = await read_whole(registry, original.repository, original.descriptor, content)
        except NoImage as reason:
            return Outcome("skipped", str(reason))
        formed, results = await self._forms(registry, image, original.tags, progress)
        if not formed:
            return _nothing(results)
        entry = structs.replace(original.descriptor, platform=image.platform or None)
        index = write_index([entry, *(one.descriptor for one in formed)], self._subject(original.descriptor), {})
        published = await publish(registry, self._config, original, formed, index)
        return Outcome("optimized", _told(results), _saved(results), published)

    def _subject(self, original: Descriptor) -> Descriptor | None:
        return original if self._config.refers else None

    async def _index(self, registry: LocalRegistry, original: Original, content: bytes, progress: Progress) -> Outcome:
        """Works on each image of an index, and publishes an index of each form, and one of all."""
        repository, subject = original.repository, self._subject(original.descriptor)
        document = json.loads(content)
        entries = msgspec.convert(document.get("manifests", []), tuple[Descriptor, ...])
        by_form: dict[str, list[Descriptor]] = {name: [] for name in self.forms}
        tables: dict[str, list[Descriptor]] = {name: [] for name in self.forms}
        every: list[Descriptor] = []
        results: list[Result] = []
        for entry in entries:
            formed: Sequence[Formed] = ()
            try:
                if entry.media_type in MANIFESTS:
                    _, manifest = await registry.manifest(repository, Digest.parse(entry.digest))
                    image = await read_whole(registry, repository, entry, manifest)
                    formed, came = await self._forms(registry, image, original.tags, progress)
                    results += came
            except (NoImage, ManifestUnknown, BlobUnknown):
                # An index need not have all that it lists.
                pass
            made = {one.form: structs.replace(one.descriptor, platform=entry.platform) for one in formed}
            for one in formed:
                await push(registry, repository, one, ())
                tables[one.form] += one.tables
            for name, listed in by_form.items():
                listed.append(made.get(name, entry))
            every += [entry, *made.values()]
        if len(every) == len(entries):
            return _nothing(results)
        base = {key: value for key, value in document.items() if key in ("annotations", "artifactType")}
        indexes = [
            structs.replace(write_index(listed, subject, base), form=name, tables=tuple(tables[name]))
            for name, listed in by_form.items()
            if listed != list(entries)
        ]
        all_forms = write_index(every, subject, base)
        published = await publish(registry, self._config, original, indexes, all_forms)
        return Outcome("optimized", _told(results), _saved(results), published)

    async def _forms(
        self, registry: LocalRegistry, image: Image, tags: Sequence[str], progress: Progress
    ) -> tuple[list[Formed], list[Result]]:
        """Returns those forms of an image in which a layer is another one, and what came of each layer."""
        if self._lineage is not None:
            for tag in tags:
                await self._lineage.note(tag, image)
        names = self._config.wanted_forms
        flattener = self._flattener if len(image.layers) > 1 else None
        size = sum(layer.size for layer in image.layers)
        progress.total += (len(names) + (flattener is not None)) * size
        formed: list[Formed] = []
        every: list[Result] = []
        for name in names:
            layers: list[Descriptor] = []
            tables: list[Descriptor] = []
            for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
                before = progress.done
                result = await self._former.form(registry, image.repository, layer, diff_id, name, progress.advance)
                # Also where nobody had to read it, or not to its end.
                progress.done = before + layer.size
                every.append(result)
                layers.append(layer if result.descriptor is None else result.descriptor)
                tables += [] if result.table is None else [result.table]
                await self._pause()
            if layers != list(image.layers):
                made = write_image(image, name, layers, refers=self._config.refers)
                formed.append(structs.replace(made, tables=tuple(tables)))
        if flattener is not None:
            before = progress.done
            flat, result = await flattener.form(registry, image, progress.advance, refers=self._config.refers)
            progress.done = before + size
            every.append(result)
            formed += [] if flat is None else [flat]
        return formed, every


async def read_whole(registry: LocalRegistry, repository: str, descriptor: Descriptor, content: bytes) -> Image:
    """Returns an image with its configuration. Raises `NoImage`."""
    try:
        config = msgspec.convert(json.loads(content)["config"], Descriptor)
    except (ValueError, KeyError, msgspec.ValidationError) as error:
        message = "it has no configuration"
        raise NoImage(message) from error
    if config.size > LARGEST_CONFIG:
        message = f"its configuration has {config.size} bytes"
        raise NoImage(message)
    digest = Digest.parse(config.digest)
    if digest not in await registry.held_blobs(repository, [digest]):
        message = "the repository does not have its configuration"
        raise NoImage(message)
    chunks = [chunk async for chunk in registry.stored_bytes(digest)]
    return await asyncio.to_thread(read_image, repository, descriptor, content, b"".join(chunks))


def _saved(results: Sequence[Result]) -> int:
    made = [one for one in results if one.descriptor is not None]
    return sum(one.size - one.descriptor.size for one in made if one.descriptor is not None)


def _told(results: Sequence[Result]) -> str:
    """Returns why some layers stay as they were, each reason once."""
    return "; ".join(dict.fromkeys(one.message for one in results if one.state != "optimized"))


def _nothing(results: Sequence[Result]) -> Outcome:
    failed = any(one.state == "failed" for one in results)
    return Outcome("failed" if failed else "skipped", _told(results) or "no form is wanted")
