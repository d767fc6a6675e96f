"""The registry itself, for commands and features that push, pull and delete without a request."""

from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import BlobStat, Descriptor, Digest, Identity


class References(Struct, frozen=True):
    """What a manifest names: blobs and other manifests, each with the size in bytes that it states, and its subject.

    Layers that may lie elsewhere (image specification, "Non-Distributable Layers") are not among them.
    """

    media_type: str
    blobs: dict[Digest, int]
    children: dict[Digest, int]
    subject: str | None


class Tag(Struct, frozen=True):
    """A tag and the manifest that it names; times in seconds since the epoch.

    ``tagged_at`` is when it was last pointed at another manifest, ``pushed_at`` when the repository got this one.
    ``undeletable`` is the rule of ``[registry]`` that forbids to delete the tag, such as
    ``registry.immutable_tags: release``, or None; a gate may forbid it all the same.
    """

    name: str
    digest: Digest
    tagged_at: float
    pushed_at: float
    undeletable: str | None = None


class Quarantined(Struct, frozen=True):
    """A blob in quarantine; ``since`` in seconds since the epoch."""

    digest: Digest
    since: float
    reason: str


class LocalRegistry(Protocol):
    """The registry itself, as a command has opened it, see `open_registry`, or lent to work beside requests.

    What is pushed is what a client would push: the rules of ``[registry]`` and the gates may refuse it, subscribers are
    told of it, and the audit trail keeps it. Any method may raise `Unavailable`. ``max_manifest_size`` is in bytes.
    """

    max_manifest_size: int

    def on_behalf(self, identity: Identity | None) -> "LocalRegistry":
        """Returns the same registry, in which everything is done as ``identity``: who asks, None being nobody known.

        Gates are asked about them, as if they pulled or pushed themselves. No policy is: that is up to the caller.
        """
        ...

    async def examine(self, content: bytes, media_type: str | None, digest: Digest) -> References:
        """Returns what a manifest names; ``media_type`` None is the one that its content states.

        Raises the registry's error for a manifest that a push of it would meet, such as MANIFEST_INVALID.
        """
        ...

    async def held_blobs(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """Returns those of ``digests`` that the repository holds as blobs."""
        ...

    async def held_manifests(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """Returns those of ``digests`` that the repository holds as manifests."""
        ...

    async def tagged(self, repository: str, tags: Collection[str]) -> dict[str, Digest]:
        """Returns what each of at most 500 ``tags`` names, without those that there are not."""
        ...

    async def is_known(self, digest: Digest) -> bool:
        """Returns whether any repository holds a blob, so that `mount_blob` would find it."""
        ...

    async def mount_blob(self, repository: str, digest: Digest) -> bool:
        """Makes the repository hold a blob that another one holds, without a copy; False where none does.

        Raises `Denied`, or another error of a gate.
        """
        ...

    async def push_blob(self, repository: str, digest: Digest, chunks: AsyncIterable[bytes]) -> None:
        """Makes the bytes a blob of the repository; it is durable when this returns.

        Raises `DigestInvalid` where the bytes have another digest; `UploadInvalid` where they are more than
        ``max_upload_size_mb``; `Denied`, or another error of a gate; and what ``chunks`` raises. Nothing is then kept.
        """
        ...

    async def push_manifest(
        self,
        repository: str,
        content: bytes,
        media_type: str | None,
        digest: Digest,
        tags: Sequence[str],
        *,
        instead_of: Digest | None = None,
    ) -> None:
        """Makes the repository hold a manifest and points ``tags`` at it, in one transaction.

        What it names has to be there. With ``instead_of`` nothing is changed where one of the tags does not name that.
        Raises what a push of it would meet: `DigestInvalid`, `Denied` where a tag is immutable, the registry's error of
        status 412, and others.
        """
        ...

    def repositories(self) -> AsyncIterator[str]:
        """Yields the name of every repository, in binary order."""
        ...

    def tags(self, repository: str) -> AsyncIterator[Tag]:
        """Yields every tag, in binary order."""
        ...

    def unnamed_manifests(self, repository: str) -> AsyncIterator[Digest]:
        """Yields every manifest that no tag and no index of the repository names, such as a signature."""
        ...

    def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Descriptor]:
        """Yields every manifest whose subject is ``subject``."""
        ...

    async def manifest(self, repository: str, reference: Digest | str) -> tuple[str, bytes]:
        """Returns media type and content of a manifest, by `Digest` or by tag.

        Raises the registry's MANIFEST_UNKNOWN, or a gate's error.
        """
        ...

    async def is_verified(self, repository: str, reference: str) -> bool:
        """Returns whether the signatures of a manifest, by tag or digest, are what the repository's policy asks for.

        That is ``[signing.verification_policy]``, also where it is not required for pulls. False where nobody judges
        signatures. Raises MANIFEST_UNKNOWN.
        """
        ...

    def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """Yields the bytes of a blob. Raises `BlobUnknown`, also within; never ends short; or a gate's error."""
        ...

    async def delete_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Removes a tag that still names ``digest``, and keeps its manifest.

        Raises what a client would meet: `Denied` where the tag is immutable, or by a gate; the registry's
        PRECONDITION_FAILED where the tag names another manifest by now, and MANIFEST_UNKNOWN where it is gone.
        """
        ...

    def stored_blobs(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every blob that is recorded, of whichever repository, in order of digest, behind ``after``.

        Not those in quarantine. ``modified`` is when it was first pushed.
        """
        ...

    def stored_bytes(self, digest: Digest) -> AsyncIterator[bytes]:
        """Yields the bytes that the store keeps for a blob, unchecked. Raises `BlobUnknown`."""
        ...

    async def quarantine(self, digest: Digest, reason: str) -> None:
        """Lets no repository give out a blob whose bytes are not its own any more, until somebody pushes it again.

        To clients it is unknown, so that they push it; every repository that held it then holds it again.
        """
        ...

    def quarantined(self) -> AsyncIterator[Quarantined]:
        """Yields every blob in quarantine, in order of digest."""
        ...


@runtime_checkable
class SupportsRegistry(Protocol):
    """A feature that uses the registry in its routes."""

    def use(self, registry: LocalRegistry) -> None:
        """Takes the registry, with which it does everything in the name of the plugin.

        Called once, when everything is open and nobody was served yet.
        """
        ...
