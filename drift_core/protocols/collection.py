"""What removes garbage, and what keeps content from it."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import Digest


class Removal(Struct, frozen=True):
    """One thing that a collection removed, or would remove; ``size`` in bytes."""

    digest: Digest
    size: int
    reason: str
    kind: Literal["blob", "manifest"]
    repository: str


class Candidate(Struct, frozen=True):
    """Something that nothing in the records reaches: a manifest of a repository, or a blob's place in one.

    ``size`` is in bytes, ``unreached_since`` in seconds since the epoch.
    """

    kind: Literal["blob", "manifest"]
    repository: str
    digest: Digest
    size: int
    unreached_since: float


class Contents(Protocol):
    """What the core lends to a collector for one run.

    Tags reach manifests; those reach their parts, and the artifacts whose subject they are. An upload in flight leases
    what it will need. What is pushed reaches its parts anew, so that they are never longer unreached than it is.
    """

    async def total(self, at_most: int) -> int:
        """Returns how many manifests and blobs the repositories hold, of which a run may be too large a share.

        It is not counted further than ``at_most``.
        """
        ...

    def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """Yields what nothing has reached since ``before``, a manifest before its parts.

        To ask costs as much as there is of it, not as there is in the registry.
        """
        ...

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Removes some, in their order and in one transaction, and returns those that it removed.

        Not those that are gone, or were reached, leased or pushed again meanwhile, or are part of a manifest that is
        still there.
        """
        ...


@runtime_checkable
class SupportsRoots(Protocol):
    """A feature that needs content kept which no tag reaches. Fails closed: an exception aborts the collection."""

    def roots(self) -> AsyncIterator[Digest]:
        """Yields every digest that has to stay; where that is a manifest, also its parts."""
        ...


@runtime_checkable
class Collector(Protocol):
    """Removes what nothing reaches, and has not for the time of grace in its configuration."""

    def collect(self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool) -> AsyncIterator[Removal]:
        """Yields each removal after it happened; in a dry run, the same where nothing changes meanwhile.

        Asks all of ``roots`` before it removes anything, and lets out what one of them raises.
        """
        ...


@runtime_checkable
class SupportsSchedule(Protocol):
    """A collector that the server runs by itself, on one node at a time: every ``interval`` seconds.

    In such runs nothing is removed where ``dry_run`` says so, nor in the first one ever where ``dry_first`` does.
    """

    interval: float
    dry_run: bool
    dry_first: bool
