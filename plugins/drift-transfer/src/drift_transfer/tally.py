"""What a command has moved so far, as the progress bar, the table at the end, and a program read it."""

from msgspec import field

from drift_core.api import Struct
from drift_transfer.source import Failure, Kind

KEPT_FAILURES = 1000
"""Failures that are told one by one; of the others the count."""


class Count(Struct):
    """Things of one kind: those that were copied, were there already, or could not be copied."""

    copied: int = 0
    there: int = 0
    failed: int = 0


class Tally(Struct):
    """Counts of one run. ``bytes`` are those of copied blobs and manifests; in a dry run, what would be copied.

    ``planned`` and ``received`` are bytes of the blobs that have come up for copying, and those of them that arrived.
    """

    repositories: int = 0
    tags: Count = field(default_factory=Count)
    manifests: Count = field(default_factory=Count)
    blobs: Count = field(default_factory=Count)
    bytes: int = 0
    planned: int = 0
    received: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])
    failed: int = 0

    def of(self, kind: Kind) -> Count | None:
        """Returns the count of a kind; repositories have none."""
        return {"tag": self.tags, "manifest": self.manifests, "blob": self.blobs}.get(kind)

    def fail(self, failure: Failure) -> None:
        """Counts and keeps a failure."""
        self.failed += 1
        if (count := self.of(failure.kind)) is not None:
            count.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)
