"""What makes signatures, and what judges them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import Descriptor, Judgement, KeyInfo


class Signature(Struct, frozen=True):
    """An artifact to store: the manifest, its blobs, and the tag beside it where the format wants one."""

    media_type: str
    manifest: bytes
    blobs: tuple[bytes, ...] = ()
    tag: str | None = None


@runtime_checkable
class Signer(Protocol):
    """Makes signatures in one format. An exception fails the request that asked for the signature.

    ``files`` are those that were read when it was opened: when one of them changes, it is opened anew.
    """

    files: Sequence[str]

    def keys(self) -> Sequence[KeyInfo]:
        """Returns the keys by which it can sign."""
        ...

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        """Returns what has to be pushed so that the format's own clients find the signature.

        ``annotations`` are signed, too; a format that has none refuses them. ``tagged`` are the manifests of the tags
        that stand for referrers of the subject: a format that has all signatures under one tag adds to that manifest.

        Raises:
            Denied: there is no such key, or it is not good now; or the format cannot do this.
        """
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges signatures of one format. A bad signature is an answer with a reason, not an exception.

    ``files`` are those that were read when it was opened: when one of them changes, it is opened anew, and what was
    judged before counts no more. ``media_types`` are those of layers and configurations that only signatures have: a
    manifest of nothing else may be read before what it signs may be pulled.
    """

    files: Sequence[str]
    media_types: Collection[str]

    def keys(self) -> Sequence[KeyInfo]:
        """Returns the keys and the authorities that are trusted."""
        ...

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """Says whether a manifest is one of this format, good or not; asked before its blobs are read."""
        ...

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """Returns a judgement for each signature in an artifact, in its order; none where it is of another format.

        ``signature`` has those of the blobs that the manifest names which are there and not too large.

        Raises:
            Unavailable: what is trusted cannot be reached now.
        """
        ...


@runtime_checkable
class SupportsExchange(Protocol):
    """A verifier whose clients bring and fetch bare signatures, by the signatures extension of the Docker API.

    They are stored as artifacts like all others: `Verifier.claims` is to say so of what `wrap` returns.
    """

    def wrap(self, subject: Descriptor, content: bytes) -> Signature:
        """Returns the artifact in which a signature of ``subject`` is stored.

        Raises:
            Denied: it is none, or too large.
        """
        ...

    def unwrap(self, signature: Signature) -> Sequence[bytes]:
        """Returns the signatures of an artifact as a client has brought them; none of what it has not wrapped."""
        ...
