"""What images are imported from: the one Protocol of every source, and what can be wrong with it."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, runtime_checkable

from drift_core.api import Digest, DriftError, Struct

Kind = Literal["repository", "tag", "manifest", "blob"]


class SourceError(DriftError):
    """Something in a source cannot be read; the message says why."""


class Absent(SourceError):
    """Something is not in the source."""


class Failure(Struct, frozen=True):
    """Something that was not moved: its name, the path or URL at which it lies, and the reason."""

    kind: Kind
    repository: str
    name: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.repository}: {self.reason} ({self.place})"


class Source(Protocol):
    """Repositories elsewhere, of which many tasks may read at once.

    An iterator yields a `Failure` in place of what it cannot read, and goes on. Any method may raise `SourceError`.
    """

    def repositories(self) -> AsyncIterator[str]:
        """Yields every name, in any order."""
        ...

    def tags(self, repository: str) -> AsyncIterator[tuple[str, Digest] | Failure]:
        """Yields every tag, in any order, and the manifest that it names."""
        ...

    async def manifest(self, repository: str, digest: Digest, limit: int) -> bytes:
        """Returns the first ``limit`` bytes of a manifest, not yet verified. Raises `Absent`."""
        ...

    def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """Yields the bytes of a blob, not yet verified. Raises `Absent` before the first."""
        ...

    def place(self, repository: str, kind: Kind, digest: Digest) -> str:
        """Returns the path or URL of a manifest or blob, for whoever has to mend it."""
        ...


@runtime_checkable
class SupportsUntagged(Protocol):
    """A source that can list what is not tagged, too."""

    def manifests(self, repository: str) -> AsyncIterator[Digest | Failure]:
        """Yields every manifest, in any order; those that an index names may be missing."""
        ...


@runtime_checkable
class SupportsReferrers(Protocol):
    """A source that cannot list what is not tagged, and is asked what refers to each manifest instead."""

    def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Digest]:
        """Yields the manifests whose subject is ``subject``."""
        ...
