"""Makes one form of one layer: takes what is known, shares what another layer gave, or has it made and proved."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from msgspec import structs
from structlog.typing import FilteringBoundLogger

from drift_core.api import Descriptor, Digest, LocalRegistry, Optimizer, Records, RegistryError, Unavailable
from drift_optimize.config import OptimizationConfig
from drift_optimize.confined.jobs import MIB
from drift_optimize.inspecting import Inspect
from drift_optimize.optimizer import LAZY, Declined, FormOptimizer
from drift_optimize.results import Kind, Result, State, canonical, known, save
from drift_optimize.spool import Spool, open_spool

FAILURE_COUNTS = 86_400.0
"""Seconds for which a layer that failed is not tried again, whichever image has it."""

LARGEST_SHARED = 1.5
"""How much larger than a layer a form may be that another layer has already: one of the two is not stored or pulled."""

Advance = Callable[[int], None]
"""Is told how many bytes of a layer were read."""


class Former:
    """Forms of layers, by the optimizers that are open. ``inspect`` says what content unpacks to."""

    def __init__(
        self,
        config: OptimizationConfig,
        records: Records,
        optimizers: Mapping[str, Optimizer],
        inspect: Inspect,
        log: FilteringBoundLogger,
    ) -> None:
        self._config = config
        self._records = records
        self._optimizers = optimizers
        self._inspect = inspect
        self._log = log

    async def form(
        self, registry: LocalRegistry, repository: str, layer: Descriptor, diff_id: Digest, name: str, advance: Advance
    ) -> Result:
        """Returns what came of a layer, which its image says to unpack to ``diff_id``; ``name`` is an optimizer's.

        A form that was made is a blob of the repository. What is wrong with a layer is a result; raises what has
        nothing to do with it, such as `Unavailable`.
        """
        work = _Work(layer, Digest.parse(layer.digest), diff_id, self._key(name), time.monotonic())
        if layer.size < self._config.min_layer_size_mb * MIB:
            return work.result("skipped", f"it is smaller than {self._config.min_layer_size_mb:g} MiB")
        # Whoever knows only the digest of a layer of others must not get it in another form.
        if work.digest not in await registry.held_blobs(repository, [work.digest]):
            return work.result("skipped", "the repository does not have it")
        same = partial(known, digest=work.digest, form=work.form, claim=work.claim)
        before = await self._records.read(same)
        if before is not None and await self._holds(registry, repository, before):
            return work.described(before)
        result = await self._share(registry, repository, work, name, advance) or await self._make(
            registry, repository, work, self._optimizers[name], advance
        )
        await self._records.write(partial(save, result=result))
        told = {"digest": layer.digest, "form": work.form, "kind": result.kind, "state": result.state}
        self._log.info("looked at a layer", **told, reason=result.message or None)
        return work.described(result)

    def _key(self, name: str) -> str:
        levels = {"gzip": self._config.gzip_level, "estargz": self._config.gzip_level}
        level = levels.get(name, self._config.zstd_level)
        return f"{name}:{level}:{self._config.min_gain:g}"

    async def _holds(self, registry: LocalRegistry, repository: str, before: Result) -> bool:
        """Says whether what is known can be used here."""
        if before.state == "failed":
            return time.time() - before.created_at < FAILURE_COUNTS
        return before.descriptor is None or await bring(registry, repository, before)

    async def _share(
        self, registry: LocalRegistry, repository: str, work: "_Work", name: str, advance: Advance
    ) -> Result | None:
        """Returns the form of another layer that unpacks to the same, once this one was proved to; or None."""
        if not self._config.enable_layer_deduplication:
            return None
        other = await self._records.read(partial(canonical, diff_id=work.diff_id, form=work.form))
        if other is None or other.descriptor is None:
            return None
        if other.descriptor.digest == work.digest:
            return work.result("skipped", "it is this form")
        try:
            found = await self._inspect(work.layer, counted(registry.stored_bytes(work.digest), advance))
        except RegistryError as error:
            return work.failed(error)
        useful = name in LAZY or other.descriptor.size < work.layer.size * LARGEST_SHARED
        if found != work.diff_id:
            result = work.result("failed", _another(found, work.diff_id))
        elif not useful:
            result = work.result("skipped", f"the form of {other.digest}, which unpacks to the same, is larger")
        else:
            shared, told = other.descriptor, f"shared with {other.digest}"
            result = work.result("optimized", told, shared, other.table, "deduplication")
        return result if result.descriptor is None or await bring(registry, repository, other) else None

    async def _make(
        self, registry: LocalRegistry, repository: str, work: "_Work", optimizer: Optimizer, advance: Advance
    ) -> Result:
        content = counted(registry.stored_bytes(work.digest), advance)
        with open_spool(self._config.scratch_path, self._config.max_scratch_mb * MIB) as spool:
            try:
                made, table = await _optimized(optimizer, work.layer, content, spool)
                if made is None:
                    return work.result("skipped", "the optimizer gains nothing by it, or does not know its kind")
                found = await self._inspect(made, spool.chunks())
            except Declined as reason:
                return work.result("skipped", reason.message)
            except RegistryError as error:
                return work.failed(error)
            if found != work.diff_id:
                return work.result("failed", _another(found, work.diff_id))
            await registry.push_blob(repository, Digest.parse(made.digest), spool.chunks())
        if table is not None:
            await registry.push_blob(repository, Digest.parse(table[0].digest), chunked(table[1]))
        return work.result("optimized", "", work.bare(made), None if table is None else table[0])


class _Work:
    """One layer that is worked on, and how its results begin."""

    def __init__(self, layer: Descriptor, digest: Digest, diff_id: Digest, form: str, began: float) -> None:
        self.layer = layer
        self.digest = digest
        self.diff_id = diff_id
        self.form = form
        told = json.dumps([layer.media_type, diff_id, layer.annotations], sort_keys=True)
        self.claim = Digest.of(told.encode()).encoded
        self._began = began

    def bare(self, made: Descriptor) -> Descriptor:
        """Returns the descriptor of a form without what is the image's own."""
        own = self.layer.annotations or {}
        annotations = {key: value for key, value in (made.annotations or {}).items() if own.get(key) != value}
        return Descriptor(made.media_type, made.digest, made.size, None, annotations or None)

    def described(self, result: Result) -> Result:
        """Returns a result with the descriptor as it belongs in a manifest: with all annotations of the layer."""
        form = result.descriptor
        if form is None:
            return result
        annotations = {**(self.layer.annotations or {}), **(form.annotations or {})}
        return structs.replace(result, descriptor=structs.replace(form, annotations=annotations or None))

    def result(
        self,
        state: State,
        message: str,
        descriptor: Descriptor | None = None,
        table: Descriptor | None = None,
        kind: Kind = "compression",
    ) -> Result:
        return Result(
            digest=self.digest,
            form=self.form,
            claim=self.claim,
            kind=kind,
            state=state,
            size=self.layer.size,
            diff_id=self.diff_id if state == "optimized" else None,
            descriptor=descriptor,
            table=table,
            message=message,
            milliseconds=round((time.monotonic() - self._began) * 1000),
        )

    def failed(self, error: RegistryError) -> Result:
        """Returns what an error says of the layer; raises it where it says nothing of it."""
        if isinstance(error, Unavailable):
            raise error
        return self.result("failed", error.message)


async def _optimized(
    optimizer: Optimizer, layer: Descriptor, content: AsyncIterator[bytes], spool: Spool
) -> tuple[Descriptor | None, tuple[Descriptor, bytes] | None]:
    if isinstance(optimizer, FormOptimizer):
        return await optimizer.optimize_with_table(layer, content, spool) or (None, None)
    return await optimizer.optimize(layer, content, spool), None


async def bring(registry: LocalRegistry, repository: str, result: Result) -> bool:
    """Says whether the repository has what was made of a layer, after mounting it where another one does.

    What it has is mounted, too, so that it is not collected before the manifest is there. To be called only for who is
    known to have the layer itself.
    """
    parts = [Digest.parse(one.digest) for one in (result.descriptor, result.table) if one is not None]
    return all([await registry.mount_blob(repository, part) for part in parts])


async def chunked(content: bytes) -> AsyncIterator[bytes]:
    """Yields bytes as a stream of one chunk."""
    yield content


async def counted(chunks: AsyncIterator[bytes], advance: Advance) -> AsyncIterator[bytes]:
    """Passes chunks on, and tells ``advance`` how many bytes they have."""
    async for chunk in chunks:
        advance(len(chunk))
        yield chunk


def _another(found: Digest, wanted: Digest) -> str:
    return f"it unpacks to {found}, and its image says {wanted}"
