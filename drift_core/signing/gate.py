"""The gate before a pull: what a policy wants signed is given to nobody who may only pull before it is."""

import asyncio
import time
from collections.abc import Collection, Hashable

import msgspec
import structlog
from msgspec import Struct

from drift_core.errors import Denied
from drift_core.guard import Guard
from drift_core.metadata import judgements
from drift_core.metadata.cache import QueryCache
from drift_core.metadata.database import Database
from drift_core.metrics import Metrics
from drift_core.model import PLUGIN, Action, Change, Descriptor, Digest, Scope
from drift_core.registry.document import INDEX_TYPES, OCI_MANIFEST
from drift_core.registry.manifests import is_about
from drift_core.signing.evidence import Evidence
from drift_core.signing.policy import Decision, Policies, decide

MOST_INDEXES = 8
"""Of how many indexes, the newest that may be signed, a signature may cover a manifest."""

CACHED = 20_000
"""Manifests of which a worker remembers whether they may be pulled: some 10 MB at most."""

REFUSED_SECONDS = 10.0
"""How long a refusal is remembered while nobody commits anything: what is not good yet may be by and by."""

OURS = frozenset({"command", PLUGIN})
"""Sources of identities that are no clients: what they read they may read from the disk as well."""

LARGEST_BESIDE = 256 << 10
"""Most bytes of a manifest that is taken for a signature or another referrer before it is signed itself."""

EMPTY = "application/vnd.oci.empty.v1+json"
IMAGE = "application/vnd.oci.image.config.v1+json"
SIGNATURES = frozenset(
    {
        "application/cose",
        "application/jose+json",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dsse.envelope.v1+json",
    }
)
DOCUMENTS = frozenset(
    {
        "application/sarif+json",
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.cyclonedx+xml",
        "application/vnd.in-toto+json",
        "application/vnd.syft+json",
        "text/spdx",
        "text/spdx+json",
    }
)
"""Media types of layers that nobody runs: of signatures, whoever judges them, and of what else refers to an image."""

CONFIGS = frozenset({EMPTY, "application/vnd.cncf.notary.signature", "application/vnd.dev.cosign.artifact.sig.v1+json"})
READ = {
    name.casefold(): name
    for name in ("artifactType", "config", "digest", "layers", "manifests", "mediaType", "size", "subject")
}


class _Part(Struct, rename="camel", frozen=True):
    media_type: str = ""


class _Document(Struct, rename="camel"):
    config: _Part = _Part()
    layers: tuple[_Part, ...] = ()
    manifests: tuple[_Part, ...] | None = None


class _Answer(Struct, frozen=True):
    """Why a manifest may not be pulled, None where it may; until when, in seconds since the epoch, or None for ever."""

    refusal: str | None
    until: float | None = None

    def counts(self, now: float) -> bool:
        return self.until is None or now < self.until


class SignatureGate:
    """Asked before every pull of a manifest, by tag or digest, with HEAD as with GET; never before that of a blob."""

    gated: Collection[Action] = frozenset[Action](["manifest.pull"])

    def __init__(
        self, database: Database, evidence: Evidence, policies: Policies, guard: Guard, metrics: Metrics
    ) -> None:
        self._database = database
        self._evidence = evidence
        self._policies = policies
        self._guard = guard
        self._metrics = metrics
        self._answers = QueryCache[_Answer](database.version, CACHED, lambda _: 1, metrics.lookups("signatures"))
        self._asked: dict[Hashable, asyncio.Task[_Answer]] = {}
        self._log = structlog.get_logger("drift.signing")

    def admitted(self, repository: str, digest: Digest, tag: str | None) -> bool:
        """See `Remembering`."""
        if not self._policies.of(repository).require_signatures:
            return True
        if time.monotonic() >= self._evidence.fresh_until:
            return False
        answer = self._answers.held(self._key(repository, digest, tag))
        return answer is not None and answer.refusal is None and answer.counts(time.time())

    async def admit(self, change: Change) -> None:
        """See `Gate`.

        Raises:
            Denied: it is not signed as the policy of the repository wants it.
            Unavailable: that cannot be said now.
        """
        policy = self._policies.of(change.repository)
        identity = change.identity
        if not policy.require_signatures or (identity is not None and identity.source in OURS):
            return
        answer = await self._answer(change)
        if answer.refusal is None:
            return
        if policy.enforcement == "warn":
            self._metrics.unsigned_pulls.labels("warned").inc()
            self._log.warning(
                "a manifest is not signed as it should be",
                repository=change.repository,
                digest=change.digest,
                reason=answer.refusal,
            )
            return
        # Whoever signs with a client has to fetch first what is to be signed.
        push = Scope("repository", change.repository, "push")
        if policy.exempt_pushers and await self._guard.may(identity, push):
            self._metrics.unsigned_pulls.labels("exempt").inc()
            return
        self._metrics.unsigned_pulls.labels("refused").inc()
        raise Denied(f"the manifest is not signed as it has to be: {answer.refusal}", digest=change.digest)

    def _key(self, repository: str, digest: str | None, tag: str | None) -> Hashable:
        return (repository, digest, tag is None, _about(tag), self._evidence.trusted)

    async def _answer(self, change: Change) -> _Answer:
        await self._evidence.trust()
        tag = change.tags[0] if change.tags else None
        key = self._key(change.repository, change.digest, tag)
        held = self._answers.held(key)
        if held is not None and held.counts(time.time()):
            return held
        # Many ask for the same at the same time; but nobody gets an answer that is older than the last change.
        asked = (key, self._database.version())
        task = self._asked.get(asked)
        if task is None:
            task = self._asked[asked] = asyncio.create_task(self._ask(key, change, about=_about(tag)))
            task.add_done_callback(lambda _: self._asked.pop(asked, None))
        return await asyncio.shield(task)

    async def _ask(self, key: Hashable, change: Change, *, about: bool) -> _Answer:
        async def ask() -> _Answer:
            # A tag is what somebody else could move, unless it names a digest; entries of an index are asked for, too.
            if about and change.media_type in INDEX_TYPES:
                return _Answer(None)
            types = {kind for one in self._evidence.formats for kind in one.driver.media_types}
            if (about or not change.tags) and stands_beside(change.media_type or "", change.content or b"", types):
                return _Answer(None)
            subject = Descriptor(str(change.media_type), Digest(str(change.digest)), int(change.size or 0))
            decision = await self._covered(change.repository, subject)
            if decision.enough:
                return _Answer(None, decision.until)
            return _Answer(decision.reason, time.time() + REFUSED_SECONDS)

        trusted = self._evidence.trusted
        self._answers.drop(key)
        answer = await self._answers.get(key, ask)
        if self._evidence.trusted != trusted:
            # Who is trusted has changed meanwhile, and may change back.
            self._answers.drop(key)
        return answer

    async def _covered(self, repository: str, subject: Descriptor) -> Decision:
        """Returns what the policy says of a manifest, or of the first index with enough signatures that lists it."""
        policy = self._policies.of(repository)
        own = decide(policy, await self._evidence.of(repository, subject), time.time())
        if own.enough or not policy.cover_children:
            return own
        for index in await self._database.read(
            lambda db: judgements.signed_indexes_of(db, repository, subject.digest, MOST_INDEXES)
        ):
            above = decide(policy, await self._evidence.of(repository, index), time.time())
            if above.enough:
                return above
        return own


def _about(tag: str | None) -> bool:
    """Says whether a tag stands for a referrer: by its name alone, and few begin like those that do."""
    return tag is not None and tag[:3] == "sha" and is_about(tag)


def stands_beside(media_type: str, content: bytes, types: Collection[str]) -> bool:
    """Says whether a manifest is a signature, or another document about an image, and nothing that anybody runs.

    That is to be read before what it is about may be pulled. ``types`` are those of the formats that are installed.
    Only what is on a list is one: clients take layers for those of an image whatever their type, and read a member
    whose name differs in its case.
    """
    if media_type != OCI_MANIFEST or len(content) > LARGEST_BESIDE:
        return False
    try:
        document = msgspec.json.decode(content, type=_Document)
        if not _is_plain(msgspec.json.decode(content)):
            return False
    except (msgspec.DecodeError, RecursionError):
        return False
    kinds = {layer.media_type for layer in document.layers}
    if document.manifests is not None or not kinds:
        return False
    signatures, config = SIGNATURES.union(types), document.config.media_type
    described = config in CONFIGS or config in types
    return (kinds <= signatures and config == IMAGE) or (kinds <= signatures | DOCUMENTS and described)


def _is_plain(node: object) -> bool:
    """Says whether no member's name is one of those that clients read but for its case."""
    if isinstance(node, list):
        return all(map(_is_plain, node))
    if not isinstance(node, dict):
        return True
    return all(READ.get(name.casefold(), name) == name and _is_plain(value) for name, value in node.items())
