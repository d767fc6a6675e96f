"""Finds the artifacts that may sign a manifest, has them judged, and remembers what was found for all workers."""

import asyncio
import sys
import time
from collections.abc import Sequence
from functools import partial
from hashlib import sha256

import msgspec
import structlog
from msgspec import Struct, structs

from drift_core.errors import BlobUnknown, DigestInvalid, RegistryError
from drift_core.failures import is_failure
from drift_core.metadata import judgements, queries
from drift_core.metadata.database import Database
from drift_core.metadata.judgements import Artifact
from drift_core.metrics import Metrics
from drift_core.model import Descriptor, Digest, Judgement
from drift_core.protocols.signing import Signature, Verifier
from drift_core.protocols.storage import BlobStore
from drift_core.signing.format import LOOK_SECONDS, Format
from drift_core.signing.policy import Found

MOST_ARTIFACTS, ROUNDS = 100, 10
"""How many artifacts of a manifest may be signatures, and how often as many are looked at to find these."""

LARGEST_MANIFEST = 1 << 20
LARGEST_BLOBS = 4 << 20
"""Most bytes of a manifest, and of all blobs of one, that are read to judge it."""

LONGEST = 256
"""Characters of what a verifier says that are kept: an artifact may say anything."""

DOUBT_SECONDS = 3600.0
"""After which what was not good is judged again, where its verifier does not say when: a blob may be there again."""

FAILED_SECONDS = 60.0
"""After which a verifier that failed is asked again: what it failed at may be no fault of the artifact."""

JUDGED_AT_ONCE = 4
"""Artifacts that a worker judges at the same time: each may hold as many bytes as above."""

Kept = dict[str, tuple[Judgement, ...]]


class _Layer(Struct):
    digest: str
    size: int


class _Manifest(Struct):
    layers: tuple[_Layer, ...] = ()


class Evidence:
    """Asks every verifier. A judgement counts as long as its format trusts the same, and is kept in the database.

    Until ``fresh_until`` of the monotonic clock ``trusted`` is what `trust` returns.
    """

    def __init__(
        self, database: Database, store: BlobStore, formats: Sequence[Format[Verifier]], metrics: Metrics
    ) -> None:
        self.formats = tuple(formats)
        self._database = database
        self._store = store
        self._metrics = metrics
        self.trusted, self.fresh_until = "", 0.0
        self._judging = asyncio.Semaphore(JUDGED_AT_ONCE)
        self._log = structlog.get_logger("drift.signing")

    async def trust(self) -> str:
        """Returns what stands for all that is trusted now. Raises `Unavailable`."""
        found, until = sha256(), time.monotonic() + LOOK_SECONDS
        for one in self.formats:
            found.update((await one.current())[1].encode())
            until = min(until, one.fresh_until)
        # Interned, since it is part of keys that are compared with every pull.
        self.trusted, self.fresh_until = sys.intern(found.hexdigest()), until
        return self.trusted

    async def of(self, repository: str, subject: Descriptor) -> list[Found]:
        """Returns every signature of a manifest that is found in its repository.

        Raises:
            Unavailable: it cannot be said now.
        """
        trust = await self.trust()
        now = time.time()
        known: dict[int, tuple[Artifact, Kept]] = {}
        for _ in range(ROUNDS):
            artifacts = await self._artifacts(repository, subject.digest, trust)
            new = [artifact for artifact in artifacts if artifact.id not in known]
            kept = await asyncio.gather(*(self._kept(repository, subject, artifact, trust, now) for artifact in new))
            known |= {artifact.id: (artifact, found) for artifact, found in zip(new, kept, strict=True)}
            # Where some are of no format others have been left out for them.
            if len(artifacts) < MOST_ARTIFACTS or all(kept):
                break
        return [
            Found(format=name, artifact=artifact.digest, pushed_at=artifact.pushed_at, judgement=judgement)
            for artifact, by_format in known.values()
            for name, every in by_format.items()
            for judgement in every
        ]

    async def _artifacts(self, repository: str, subject: str, trust: str) -> list[Artifact]:
        return await self._database.read(
            lambda db: judgements.artifacts_of(db, repository, subject, trust, MOST_ARTIFACTS)
        )

    async def artifacts(self, repository: str, subject: str, verifier: Verifier) -> list[Signature]:
        """Returns the artifacts that may sign a manifest and are those of a verifier, with their blobs."""
        found: list[Signature] = []
        for artifact in await self._artifacts(repository, subject, await self.trust()):
            document = await self._document(artifact)
            if document is not None and await asyncio.to_thread(verifier.claims, *document):
                found.append(Signature(*document, tuple(await self._layers(repository, document[1]))))
        return found

    async def _document(self, artifact: Artifact) -> tuple[str, bytes] | None:
        if artifact.size > LARGEST_MANIFEST:
            return None
        return await self._database.read(lambda db: judgements.document_of(db, artifact.id))

    async def _kept(self, repository: str, subject: Descriptor, artifact: Artifact, trust: str, now: float) -> Kept:
        if artifact.found is not None and artifact.judged_at is not None:
            kept = msgspec.json.decode(artifact.found, type=Kept)
            if _counts(kept, artifact.judged_at, now):
                return kept
        async with self._judging:
            judged = await self._judge(repository, subject, artifact)
        # What was judged while a file changed is that of nobody knows what.
        if await self.trust() == trust:
            await self._keep(artifact, subject, trust, judged)
        return judged

    async def _keep(self, artifact: Artifact, subject: Descriptor, trust: str, judged: Kept) -> None:
        good = any(judgement.good for every in judged.values() for judgement in every)
        found = judgements.Judged(time.time(), bool(judged), good, msgspec.json.encode(judged))
        keep = partial(judgements.keep, artifact=artifact.id, subject=subject.digest, trust=trust, judged=found)
        try:
            await self._database.write(keep, durable=False)
        except RegistryError as error:
            # It is known now, and only costs the next one to be found out again.
            self._log.warning("cannot keep what was judged", artifact=artifact.digest, error=error.message)

    async def _judge(self, repository: str, subject: Descriptor, artifact: Artifact) -> Kept:
        document = await self._document(artifact)
        if document is None:
            return {}
        drivers = {one.name: (await one.current())[0] for one in self.formats}
        claiming = {name: one for name, one in drivers.items() if await self._claims(name, one, *document)}
        if not claiming:
            return {}
        signature = Signature(*document, tuple(await self._layers(repository, document[1])))
        return {name: await self._ask(name, one, repository, subject, signature) for name, one in claiming.items()}

    async def _claims(self, name: str, verifier: Verifier, media_type: str, content: bytes) -> bool:
        """Asks whether a manifest is of a format; one whose verifier fails is, so that it says that it fails."""
        try:
            # A large manifest takes longer to parse than others should wait.
            return await asyncio.to_thread(verifier.claims, media_type, content)
        except Exception as error:  # noqa: BLE001 - whatever it raises
            self._log.exception("a verifier failed", format=name, error=str(error))
            return True

    async def _ask(
        self, name: str, verifier: Verifier, repository: str, subject: Descriptor, signature: Signature
    ) -> tuple[Judgement, ...]:
        try:
            judged = tuple(map(_cut, await verifier.judge(repository, subject, signature)))
        except RegistryError:
            raise
        except BaseException as error:
            if not is_failure(error):
                raise
            self._log.exception("a verifier failed, and the signature counts as bad", format=name, error=str(error))
            again = time.time() + FAILED_SECONDS
            judged = (Judgement(good=False, reason="its verifier failed", valid_until=again),)
        for judgement in judged:
            self._metrics.judgements.labels(name, "good" if judgement.good else "bad").inc()
        return judged

    async def _layers(self, repository: str, content: bytes) -> list[bytes]:
        """Returns the blobs that a manifest names, those that are there and not too large."""
        try:
            layers = msgspec.json.decode(content, type=_Manifest).layers
        except msgspec.DecodeError:
            return []
        found: list[bytes] = []
        left = LARGEST_BLOBS
        for layer in {layer.digest: layer for layer in layers[:MOST_ARTIFACTS]}.values():
            try:
                digest = Digest.parse(layer.digest)
                size = await self._database.read(partial(queries.blob_size, repository=repository, digest=digest))
                if size is not None and size <= left:
                    left -= size
                    found.append(b"".join([chunk async for chunk in self._store.read(digest, 0, size)]))
            except (BlobUnknown, DigestInvalid):
                continue
        return found


def _cut(said: Judgement) -> Judgement:
    signer = None if said.signer is None else said.signer[:LONGEST]
    return structs.replace(said, reason=said.reason[:LONGEST], signer=signer)


def _counts(kept: Kept, judged_at: float, now: float) -> bool:
    """Says whether what was judged still is so."""
    if now < judged_at - DOUBT_SECONDS:
        return False  # the clock was put back
    every = [judgement for judged in kept.values() for judgement in judged]
    ended = any(one.valid_until is not None and judged_at < one.valid_until <= now for one in every)
    doubtful = any(not judgement.good for judgement in every)
    return not ended and not (doubtful and now > judged_at + DOUBT_SECONDS)
