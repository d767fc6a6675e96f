"""What an operator asks of signatures: to make them, to judge them, and which keys there are."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from msgspec import Struct

from drift_core.errors import Denied, ManifestUnknown, PreconditionFailed, Unsupported
from drift_core.metadata import queries, reach
from drift_core.metadata.database import Database
from drift_core.metrics import Metrics
from drift_core.model import Action, AuditEvent, Descriptor, Digest, Event, Identity, KeyInfo
from drift_core.protocols.signing import Signature, Signer
from drift_core.registry.local import Local
from drift_core.registry.manifests import Condition
from drift_core.registry.registry import Registry
from drift_core.registry.rules import check_tag
from drift_core.signing.evidence import Evidence
from drift_core.signing.format import Format
from drift_core.signing.policy import Decision, Found, Policies, decide
from drift_core.trail import Trail

ATTEMPTS = 10
"""How often a signature is added to a tag that others change meanwhile."""

WARN_SECONDS = 30 * 86400.0
"""So long before a certificate ends somebody should know."""


class Made(Struct, frozen=True):
    """An artifact that was pushed, with its tag where it has one; one that was there ``already`` was not."""

    format: str
    digest: str
    tag: str | None
    already: bool = False


class Said(Struct, frozen=True, kw_only=True):
    """What is said of one signature; moments are in seconds since the epoch.

    It is ``valid`` if its verifier says so, and ``trusted`` if it counts for the policy of the repository.
    """

    format: str
    artifact: str
    valid: bool
    trusted: bool
    key_id: str | None
    signer: str | None
    algorithm: str | None
    signed_at: float | None
    valid_until: float | None
    certificate_chain_valid: bool | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


class Verified(Struct, frozen=True, kw_only=True):
    """What is said of a manifest: whether its signatures are what the policy asks for, required or not."""

    repository: str
    digest: str
    verified: bool
    required: bool
    reason: str
    signers: tuple[str, ...]
    signatures: tuple[Said, ...]


class Key(Struct, frozen=True, kw_only=True):
    """A key, or somebody who is trusted, of a format; ``warning`` is about a certificate that ends."""

    format: str
    name: str
    kind: str
    algorithm: str | None
    expires_at: float | None
    warning: str | None


class Signing:
    """Everything about signatures but the gate. Without ``[signing] enabled`` it has no formats."""

    subscribed: Collection[Action] = frozenset[Action](["manifest.push"])

    def __init__(
        self,
        database: Database,
        registry: Registry,
        signers: Sequence[Format[Signer]],
        evidence: Evidence,
        policies: Policies,
        default_key_id: str,
        metrics: Metrics,
        trail: Trail,
    ) -> None:
        self._database = database
        self._registry = registry
        self._signers = {one.name: one for one in signers}
        self.evidence = evidence
        self._policies = policies
        self._default_key_id = default_key_id
        self._metrics = metrics
        self._trail = trail
        self._log = structlog.get_logger("drift.signing")

    async def keys(self) -> list[Key]:
        """Returns the keys of every format, and who is trusted. Raises `Unavailable`."""
        found: list[Key] = []
        for one in self._signers.values():
            signer, _ = await one.current()
            found += map(partial(_key, one.name), signer.keys())
        for other in self.evidence.formats:
            verifier, _ = await other.current()
            found += map(partial(_key, other.name), verifier.keys())
        return found

    async def verify(self, repository: str, reference: str) -> Verified:
        """Returns what is said of a manifest by digest or tag.

        Raises:
            ManifestUnknown: there is no such manifest.
            Unavailable: it cannot be said now.
        """
        subject = await self.subject(repository, reference)
        decision = await self._decision(repository, subject)
        return Verified(
            repository=repository,
            digest=subject.digest,
            verified=decision.enough,
            required=decision.policy.require_signatures,
            reason=decision.reason,
            signers=decision.signers,
            signatures=tuple(map(_said, decision.found, decision.refusals)),
        )

    async def is_verified(self, repository: str, reference: str) -> bool:
        """See `LocalRegistry`."""
        return bool(self.evidence.formats) and (await self.verify(repository, reference)).verified

    async def sign(
        self,
        repository: str,
        reference: str,
        key_id: str | None,
        formats: Sequence[str],
        annotations: Mapping[str, str],
        identity: Identity,
    ) -> list[Made]:
        """Signs a manifest, and pushes the signatures; no ``formats`` are all that have the key.

        What the key has signed already so that it counts is not signed by it again, unless with annotations.

        Raises:
            Unsupported: no signer of such a format is installed.
            ManifestUnknown: there is no such manifest.
            Denied: there is no such key, or its signer refuses.
            PreconditionFailed: the tag of the signatures is changed by others all the time.
        """
        wanted = self._default_key_id if key_id is None else key_id
        chosen = [await self._with_key(name, wanted) for name in formats] or await self._having(wanted)
        subject = await self.subject(repository, reference)
        decision = await self._decision(repository, subject)
        counting = [one for one, why in zip(decision.found, decision.refusals, strict=True) if why is None]
        made: list[Made] = []
        for one in chosen:
            key = await _found(one, wanted)
            mark = (one.name, None if key is None else key.fingerprint)
            there = [known for known in counting if (known.format, known.judgement.fingerprint) == mark]
            if there and not annotations and mark[1] is not None:
                made += [Made(one.name, known.artifact, None, already=True) for known in there]
                continue
            made += await self._sign(one, repository, subject, wanted, annotations, identity)
            await self._tell("SignatureCreated", repository, subject, identity, {"format": one.name, "key_id": wanted})
        return made

    async def on_event(self, event: Event) -> None:
        """Judges what may be a signature when it was pushed, so that the audit trail has it and a pull need not."""
        about = (event.subject, *(reach.subject_of_tag(tag) for tag in event.tags))
        for digest in {one for one in about if one is not None}:
            try:
                subject = await self.subject(event.repository, digest)
            except ManifestUnknown:
                continue  # it may be pushed after its signature
            for found in await self.evidence.of(event.repository, subject):
                if found.artifact == event.digest:
                    await self._tell_judged(event, subject, found)

    async def _tell_judged(self, event: Event, subject: Descriptor, found: Found) -> None:
        said = found.judgement
        kind = "SignatureVerified" if said.good else "SignatureInvalid"
        parameters = {"format": found.format, "artifact": found.artifact, "signer": said.signer, "actor": event.actor}
        await self._tell(kind, event.repository, subject, None, parameters, said.reason or None)

    async def _tell(
        self,
        kind: str,
        repository: str,
        subject: Descriptor,
        identity: Identity | None,
        parameters: dict[str, Any],
        reason: str | None = None,
    ) -> None:
        self._log.info(kind, repository=repository, digest=subject.digest, reason=reason, **parameters)
        if self._trail.auditors:
            await self._trail.note(
                AuditEvent(
                    type=kind,
                    severity="info" if reason is None else "warning",
                    success=reason is None,
                    reason=reason,
                    identity=identity,
                    resource_type="Image",
                    resource_id=repository,
                    digest=subject.digest,
                    parameters={name: value for name, value in parameters.items() if value is not None},
                )
            )

    async def _decision(self, repository: str, subject: Descriptor) -> Decision:
        found = await self.evidence.of(repository, subject)
        return decide(self._policies.of(repository), found, time.time())

    async def subject(self, repository: str, reference: str) -> Descriptor:
        """Returns what a digest or a tag names. Raises `ManifestUnknown`, `DigestInvalid`, `ManifestInvalid`."""
        find = queries.manifest_by_digest if ":" in reference else queries.manifest_by_tag
        name: str = Digest.parse(reference) if ":" in reference else check_tag(reference)
        stored = await self._database.read(lambda db: find(db, repository, name))
        if stored is None:
            raise ManifestUnknown(name=repository, reference=reference)
        return Descriptor(stored.media_type, stored.digest, stored.size)

    async def _having(self, key_id: str) -> list[Format[Signer]]:
        chosen = [one for one in self._signers.values() if await _found(one, key_id) is not None]
        if not self._signers:
            raise Unsupported("no signer is enabled: set signing.enabled, and install one such as drift-sign-cosign")
        if not chosen:
            raise Denied("no format has such a key; see signing.signing_keys", key_id=key_id)
        return chosen

    async def _with_key(self, name: str, key_id: str) -> Format[Signer]:
        if name not in self._signers:
            installed = ", ".join(self._signers) or "none"
            raise Unsupported(f"there is no signer of the format {name[:64]!r}; installed are: {installed}")
        if await _found(self._signers[name], key_id) is None:
            raise Denied(f"the format {name} has no such key; see signing.signing_keys", key_id=key_id)
        return self._signers[name]

    async def _sign(
        self,
        one: Format[Signer],
        repository: str,
        subject: Descriptor,
        key_id: str,
        annotations: Mapping[str, str],
        identity: Identity,
    ) -> list[Made]:
        """Signs until nobody else has changed a tag between that it was read and written."""
        made: dict[int, Made] = {}
        for left in reversed(range(ATTEMPTS)):
            signer, _ = await one.current()
            tagged = await self._tagged(repository, subject)
            manifests = {tag: content for tag, (_, content) in tagged.items()}
            signatures = await signer.sign(repository, subject, key_id, annotations=annotations, tagged=manifests)
            try:
                for number, signature in enumerate(signatures):
                    if number in made:
                        continue
                    current = None if signature.tag is None else tagged.get(signature.tag, (None, b""))[0]
                    digest = await self.push(repository, signature, current, identity)
                    made[number] = Made(one.name, digest, signature.tag)
                    self._metrics.signatures_made.labels(one.name).inc()
                return list(made.values())
            except PreconditionFailed:
                if not left:
                    raise
        return list(made.values())

    async def _tagged(self, repository: str, subject: Descriptor) -> dict[str, tuple[str, bytes]]:
        """Returns the manifests of the tags that stand for referrers of a subject, by tag, with their digests."""

        def read(db: Any) -> dict[str, tuple[str, bytes]]:
            row = queries.repository_id(db, repository)
            found: dict[str, tuple[str, bytes]] = {}
            for tag, digest in () if row is None else reach.scheme_tags(db, row, subject.digest):
                stored = queries.manifest_by_digest(db, repository, digest)
                if stored is not None:
                    found[tag] = (digest, stored.content)
            return found

        return await self._database.read(read)

    async def push(self, repository: str, signature: Signature, current: str | None, identity: Identity) -> str:
        """Pushes an artifact, its manifest last, and returns the digest.

        ``current`` is what its tag names by now. Raises `PreconditionFailed` where it names something else.
        """
        local = Local(self._registry, self._database, identity)
        blobs = {Digest.of(blob): blob for blob in signature.blobs}
        held = await local.held_blobs(repository, list(blobs))
        for digest, blob in blobs.items():
            if digest not in held:
                await local.push_blob(repository, digest, _whole(blob))
        condition = Condition()
        if signature.tag is not None:
            match = Condition(if_match=frozenset({str(current)}))
            condition = Condition(if_none_match=frozenset("*")) if current is None else match
        tags = () if signature.tag is None else (signature.tag,)
        pushed = await self._registry.manifests.put(
            repository, signature.manifest, signature.media_type, None, tags, identity, condition
        )
        return pushed.digest


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _found(one: Format[Signer], key_id: str) -> KeyInfo | None:
    signer, _ = await one.current()
    return next((key for key in list(signer.keys()) if key.name == key_id), None)


def _key(name: str, key: KeyInfo) -> Key:
    warning = None
    if key.expires_at is not None and key.expires_at < time.time() + WARN_SECONDS:
        warning = "has expired" if key.expires_at < time.time() else "expires soon"
    return Key(
        format=name,
        name=key.name,
        kind=key.kind,
        algorithm=key.algorithm,
        expires_at=key.expires_at,
        warning=warning,
    )


def _said(found: Found, refusal: str | None) -> Said:
    said = found.judgement
    return Said(
        format=found.format,
        artifact=found.artifact,
        valid=said.good,
        trusted=refusal is None,
        key_id=said.key_id,
        signer=said.signer,
        algorithm=said.algorithm,
        signed_at=said.signed_at,
        valid_until=said.valid_until,
        certificate_chain_valid=said.good if said.trust_stores else None,
        errors=() if refusal is None else (refusal,),
        warnings=said.warnings,
    )
