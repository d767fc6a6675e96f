"""The keys of ``[scrub]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct


class ScrubConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[scrub]``: how fast stored blobs are read, and how often each of them.

    ``rate_mb_per_second`` is in millions of bytes, 0 is no limit. Every blob is read once in ``interval_days``, or as
    often as the rate allows.
    """

    enabled: bool = False
    rate_mb_per_second: Annotated[float, Meta(ge=0)] = 20.0
    interval_days: Annotated[float, Meta(gt=0)] = 30.0
