"""The keys of ``[storage.cached]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct

MIB = 1 << 20
GIB = 1 << 30


class CachedConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[storage.cached]``: where copies lie, and how many bytes of them.

    They lie in the folder ``cached`` below ``path``, which is on a disk of this node: no two nodes share it. All of
    them together take ``max_gb`` (GiB) at most. A blob larger than ``max_blob_mb`` (MiB) is not copied; 0 is no limit
    but that of all.
    """

    path: Annotated[str, Meta(min_length=1)] = "./data"
    max_gb: Annotated[float, Meta(gt=0)] = 10.0
    max_blob_mb: Annotated[float, Meta(ge=0)] = 1024.0

    @property
    def limit(self) -> int:
        """Of all copies, in bytes."""
        return int(self.max_gb * GIB)

    @property
    def blob_limit(self) -> int:
        """Of one copy, in bytes."""
        return min(self.limit, int(self.max_blob_mb * MIB)) if self.max_blob_mb else self.limit
