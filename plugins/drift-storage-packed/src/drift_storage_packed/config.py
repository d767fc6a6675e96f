"""The keys of ``[storage.packed]``."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import Struct

LEVELS = {"zstd": (1, 22), "lz4": (0, 16), "brotli": (0, 11)}
"""Lowest and highest level of each algorithm, as its library has them."""

USUAL_LEVELS = {"zstd": 3, "lz4": 0, "brotli": 5}


class PackedConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[storage.packed]``: what is packed, how, and how fast.

    ``level`` None is the usual one of the algorithm. Each ``frame_kib`` of a blob is packed by itself: a range is read
    at that grain. A blob smaller than ``min_size`` bytes, younger than ``min_age_minutes``, or that would not become
    smaller by the share ``min_gain``, is left as it is. ``rate_mb_per_second`` is in millions of bytes read, 0 is no
    limit. Every ``interval_minutes`` the store is looked through for new blobs.

    An original stays for ``keep_original_minutes`` beside its packed form, because somebody may just have been told its
    file or its URL: not less than such a URL lasts. With ``pack`` false nothing more is packed, and what is packed is
    served.
    """

    pack: bool = True
    algorithm: Literal["zstd", "lz4", "brotli"] = "zstd"
    level: int | None = None
    frame_kib: Annotated[int, Meta(ge=16, le=8192)] = 256
    min_size: Annotated[int, Meta(ge=0)] = 4096
    min_gain: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    min_age_minutes: Annotated[float, Meta(ge=0)] = 60.0
    rate_mb_per_second: Annotated[float, Meta(ge=0)] = 20.0
    interval_minutes: Annotated[float, Meta(gt=0)] = 10.0
    keep_original_minutes: Annotated[float, Meta(ge=0)] = 30.0

    def __post_init__(self) -> None:
        lowest, highest = LEVELS[self.algorithm]
        if self.level is not None and not lowest <= self.level <= highest:
            message = f"level: {self.algorithm} has the levels {lowest} to {highest}"
            raise ValueError(message)

    @property
    def chosen_level(self) -> int:
        """The level to pack with."""
        return USUAL_LEVELS[self.algorithm] if self.level is None else self.level

    @property
    def recipe(self) -> str:
        """Everything that decides whether a blob gains enough; what was skipped by another one is tried again."""
        return f"{self.algorithm}/{self.chosen_level}/{self.frame_kib}/{self.min_size}/{self.min_gain}"
