"""The layer as the core sees it: a store around a store, in which packed blobs are what they were."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    Encoded,
    LocalRegistry,
    Records,
    RegistryError,
    Services,
    StoreLayer,
    SupportsBackground,
    SupportsEncoded,
    SupportsLocalPath,
    SupportsRedirect,
    Unavailable,
    UploadId,
)
from drift_storage_packed import forms
from drift_storage_packed.codecs import CODECS
from drift_storage_packed.config import PackedConfig
from drift_storage_packed.container import index_size
from drift_storage_packed.forms import Form
from drift_storage_packed.measures import Measures
from drift_storage_packed.packing import Packer, pages
from drift_storage_packed.reading import DamagedFormError, Reader

CODINGS = {codec.coding for codec in CODECS.values() if codec.coding is not None}

CACHED_FORMS = 20_000
"""Blobs of which each worker remembers how they lie; about 10 MB."""

MOVING_SECONDS = 10.0
"""How long a delete waits for an original that is just being moved."""

MOVING_PAUSE = 0.02


class Lookup:
    """Remembers in which form a blob can be read, as long as nobody has changed the database; for one event loop."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: OrderedDict[Digest, tuple[bytes, Form | None]] = OrderedDict()

    async def find(self, digest: Digest, *, missed: bool = False) -> Form | None:
        """Returns the form, or None for a blob that is not packed, which is asked anew where the original was missed.

        Raises `Unavailable`.
        """
        # Before the query: what is committed while it runs has to be asked for again.
        version = self._records.version()
        known = self._known.get(digest)
        if known is not None and known[0] == version and (known[1] is not None or not missed):
            return known[1]
        form = await self._records.read(partial(forms.readable, digest=digest))
        self._known[digest] = (version, form)
        self._known.move_to_end(digest)
        if len(self._known) > CACHED_FORMS:
            self._known.popitem(last=False)
        return form

    def forget(self, digest: Digest) -> None:
        """Asks again next time."""
        self._known.pop(digest, None)


class PackedStore(StoreLayer):
    """See `BlobStore` and `SupportsBackground`. Its commands work on ``packer``.

    What lies beneath under a digest is read first, so that a blob which is not packed costs no more than without this
    layer. The digests of packed forms are nobody's blobs: a scan does not yield them.
    """

    def __init__(self, config: PackedConfig, services: Services) -> None:
        super().__init__(services)
        self.records = services.records
        self.reader = Reader(self.beneath)
        self.measures = Measures(services.metrics)
        self.packer = Packer(config, services, self.beneath, self.measures)
        self._lookup = Lookup(services.records)
        self._log = services.log

    async def work(self, registry: LocalRegistry) -> None:  # noqa: ARG002 - packs what is stored, not what is recorded
        """See `SupportsBackground`."""
        await self.packer.work()

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`; size and time are those of the original."""
        try:
            return await self.beneath.stat(digest)
        except BlobUnknown:
            form = await self._lookup.find(digest, missed=True)
        if form is None:
            # It may have been brought back meanwhile.
            return await self.beneath.stat(digest)
        try:
            await self.reader.look(form)
        except BlobUnknown:
            self._lookup.forget(digest)
            return await self.beneath.stat(digest)
        return form.stat

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`; goes on in the other form where the one that is being read is removed."""
        if start < 0 or (stop is not None and stop < start):
            message = f"no range: {start} to {stop}"
            raise ValueError(message)
        at = start
        failure = BlobUnknown(digest=str(digest))
        for source in (self.beneath.read, self._read_packed) * 2:
            try:
                async for chunk in source(digest, at, stop):
                    at += len(chunk)
                    yield chunk
            except DamagedFormError as error:
                failure = error
            except BlobUnknown:
                continue
            else:
                return
        raise failure

    async def _read_packed(self, digest: Digest, start: int, stop: int | None) -> AsyncIterator[bytes]:
        form = await self._lookup.find(digest, missed=True)
        if form is None:
            raise BlobUnknown(digest=str(digest))
        try:
            async for chunk in self.reader.read(form, start, stop):
                yield chunk
        except DamagedFormError as error:
            self.measures.damaged.inc()
            self._log.error("a packed blob is damaged", packed=str(form.packed), **error.detail)
            raise
        except (BlobUnknown, Unavailable):
            self._lookup.forget(digest)
            # How long it is will be asked again: it may be cut short.
            self.reader.forget(form)
            raise

    async def encoded(self, digest: Digest, accepted: Collection[str]) -> Encoded | None:
        """See `SupportsEncoded`: ``zstd`` (RFC 8878), or ``br`` (RFC 7932) where the blob is one frame.

        Nothing checks the chunks: the client has the digest. Raises `Unavailable`.
        """
        form = None if CODINGS.isdisjoint(accepted) else await self._lookup.find(digest)
        if form is None or form.packed is None:
            return None
        codec = CODECS[form.algorithm]
        if codec.coding is None or codec.coding not in accepted or (form.size > form.frame_size and not codec.chained):
            return None
        try:
            # What is lost or cut short is left to `read`, which has more to say of it.
            await self.reader.look(form)
        except BlobUnknown:
            return None
        # An original that is there is read first, as by `read`: it may have been pushed because this is damaged.
        if await self._lies_beneath(digest):
            return None
        # Without the index, whose salt is nobody's business.
        size = form.packed_size - index_size(form.size, form.frame_size)
        return Encoded(codec.coding, size, self.beneath.read(form.packed, 0, size))

    async def _lies_beneath(self, digest: Digest) -> bool:
        try:
            await self.beneath.stat(digest)
        except BlobUnknown:
            return False
        return True

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`; what is committed again is read from there, whatever became of its packed form."""
        arrived: list[Form] = []
        if await self._forms(digest):
            arrived = await self.records.write(partial(forms.arrive, digest=digest))
        try:
            return await self.beneath.commit(upload, digest)
        except RegistryError:
            if arrived:
                await self.records.write(partial(forms.depart, arrived=arrived))
            raise

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`; takes the packed form, too."""
        removed = await self._remove(digest)
        ended = {form.id: form for form in removed.ended}
        if removed.bytes_too:
            await self.beneath.delete(digest)
            # Who began to pack it between the two has read it, and would bring it back.
            if any(form.state in forms.LIVE for form in await self._forms(digest)):
                ended |= {form.id: form for form in (await self._remove(digest)).ended}
        for form in ended.values():
            await self.packer.clear(form)

    async def _forms(self, digest: Digest) -> list[Form]:
        return await self.records.read(partial(forms.concerning, digest=digest))

    async def _remove(self, digest: Digest) -> forms.Removed:
        """Ends the forms of a blob, once none of them is being moved. Raises `Unavailable` where that takes long."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + MOVING_SECONDS
        try:
            while (removed := await self.records.write(partial(forms.remove, digest=digest))) is None:
                if clock() > deadline:
                    message = "the blob is just being moved"
                    raise Unavailable(message, digest=str(digest))
                await asyncio.sleep(MOVING_PAUSE)
        finally:
            self._lookup.forget(digest)
        return removed

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`; asks the database a few times for each `forms.PAGE` blobs."""
        async for _ in self.beneath.scan():
            break
        else:
            # What a volume that is not mounted looks like: nobody may take all that was packed for stored.
            return
        place = after
        async for page in pages(self.beneath.scan(after)):
            # After the page: what was there when that began, and is not among it, is packed by now.
            last = page[-1].digest
            hidden = await self.records.read(partial(forms.hidden, digests=[blob.digest for blob in page]))
            ours = {blob.digest: blob for blob in page if blob.digest not in hidden}
            async for blob in self._missed(ours.keys(), place, last):
                ours[blob.digest] = blob
            for digest in sorted(ours):
                yield ours[digest]
            place = last
        async for blob in self._missed((), place, None):
            yield blob

    async def _missed(
        self, found: Collection[Digest], after: Digest | None, last: Digest | None
    ) -> AsyncIterator[BlobStat]:
        """Yields the blobs of a range that are or were packed and are not among those whose original was found."""
        found = frozenset(found)
        while True:
            page = await self.records.read(partial(forms.between, after=after, last=last))
            others = [digest for digest in page if digest not in found]
            packed = await self.records.read(partial(forms.of_digests, digests=others, states=forms.READABLE))
            for digest in others:
                form = packed.get(digest)
                try:
                    yield form.stat if form is not None else await self.stat(digest)
                except BlobUnknown:
                    continue
            if len(page) < forms.PAGE:
                return
            after = page[-1]

    async def aclose(self) -> None:
        """Ends the thread that packs."""
        await self.packer.aclose()


class _WithLocalPath(PackedStore):
    """Where the store beneath keeps files: for a blob that lies there as it is."""

    def local_path(self, digest: Digest) -> str:
        """See `SupportsLocalPath`; of a blob that is packed there is no file at the path."""
        return cast("SupportsLocalPath", self.beneath).local_path(digest)


class _WithRedirect(PackedStore):
    """Where the store beneath hands out URLs: for a blob that lies there as it is."""

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """See `SupportsRedirect`; a blob that is packed, or soon will be without its original, is streamed."""
        if await self._lookup.find(digest) is not None:
            return None
        return await cast("SupportsRedirect", self.beneath).redirect(digest, method, client_address)


class _WithBoth(_WithLocalPath, _WithRedirect):
    pass


def _layer(beneath: BlobStore | None) -> type[PackedStore]:
    files, redirects = isinstance(beneath, SupportsLocalPath), isinstance(beneath, SupportsRedirect)
    if files and redirects:
        return _WithBoth
    if files:
        return _WithLocalPath
    return _WithRedirect if redirects else PackedStore


@asynccontextmanager
async def open_store(config: PackedConfig, services: Services) -> AsyncIterator[PackedStore]:
    """Opens the layer around the store that the services lend; nothing is packed before `PackedStore.work`.

    Raises:
        StartError: there is no store beneath.
    """
    store = _layer(services.beneath)(config, services)
    try:
        yield store
    finally:
        await store.aclose()


_: tuple[type[BlobStore], type[SupportsBackground], type[SupportsEncoded]] = (PackedStore, PackedStore, PackedStore)
__: tuple[type[SupportsLocalPath], type[SupportsRedirect]] = (_WithLocalPath, _WithRedirect)
