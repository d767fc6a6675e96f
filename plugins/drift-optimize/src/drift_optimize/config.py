"""The keys of ``[optimization]``, which the optimizers and whoever runs them share."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import Struct

Glob = Annotated[str, Meta(min_length=1, max_length=255)]

Schedule = Literal["immediate", "background", "scheduled"]
"""When work begins that nobody asked for: at once, at once but with rests, or at the moments of a cron expression."""

Publish = Literal["referrer", "tag", "index"]

LAYER_FORMS = {"gzip": ("gzip",), "zstd": ("zstd",)}
"""The forms for ``preferred_compression``; for the others there is no media type of layers."""


class OptimizationConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[optimization]``: which better forms are made of which images, when, how, and where they are published.

    ``forms`` are names of optimizers; None is that of ``preferred_compression``. A layer smaller than
    ``min_layer_size_mb`` (MiB), or of which a form would not be smaller by the share ``min_gain``, stays as it is.
    ``max_optimization_time_seconds``, ``max_memory_mb`` and ``max_scratch_mb`` bound the process that makes one form
    of one layer; ``scratch_path`` None is the system's folder for temporary files.
    """

    enabled: bool = False
    background_optimization: bool = True
    optimization_schedule: Schedule | None = None
    optimization_schedule_cron: str | None = "0 2 * * *"
    enable_compression_optimization: bool = True
    enable_layer_deduplication: bool = True
    enable_layer_squashing: bool = False
    enable_base_image_optimization: bool = False
    preferred_compression: Literal["gzip", "zstd", "lz4", "brotli", "uncompressed"] = "gzip"
    min_layer_size_mb: Annotated[float, Meta(ge=0)] = 10.0
    max_optimization_time_seconds: Annotated[float, Meta(gt=0)] = 300.0
    preserve_original: bool = True
    optimization_workers: Annotated[int, Meta(ge=1, le=64)] = 2
    repositories: Annotated[tuple[Glob, ...], Meta(min_length=1)] = ("*",)
    forms: tuple[str, ...] | None = None
    publish: Annotated[tuple[Publish, ...], Meta(min_length=1)] = ("referrer",)
    gzip_level: Annotated[int, Meta(ge=1, le=9)] = 9
    zstd_level: Annotated[int, Meta(ge=1, le=19)] = 9
    min_gain: Annotated[float, Meta(ge=0, lt=1)] = 0.02
    max_attempts: Annotated[int, Meta(ge=1)] = 3
    max_memory_mb: Annotated[int, Meta(ge=64)] = 256
    max_scratch_mb: Annotated[int, Meta(ge=1)] = 20_480
    scratch_path: str | None = None

    def __post_init__(self) -> None:
        if self.optimization_schedule == "scheduled" and self.optimization_schedule_cron is None:
            message = "optimization_schedule: scheduled needs optimization_schedule_cron"
            raise ValueError(message)
        if self.optimization_schedule_cron is not None:
            _check_cron(self.optimization_schedule_cron)

    @property
    def schedule(self) -> Schedule | None:
        """When work begins that nobody asked for; None is never."""
        if not self.background_optimization:
            return None
        by_cron: Schedule = "background" if self.optimization_schedule_cron is None else "scheduled"
        return self.optimization_schedule or by_cron

    @property
    def refers(self) -> bool:
        """Whether a form names the original as its subject; one that takes its place would go with it."""
        return "referrer" in self.publish and self.preserve_original

    @property
    def wanted_forms(self) -> tuple[str, ...]:
        """The names of the optimizers that are run."""
        if not self.enable_compression_optimization:
            return ()
        wanted = LAYER_FORMS.get(self.preferred_compression, ()) if self.forms is None else self.forms
        return tuple(dict.fromkeys(wanted))


def _check_cron(expression: str) -> None:
    from drift_optimize.schedule import next_after  # noqa: PLC0415 - only where it is given

    try:
        next_after(expression, 0.0)
    except ValueError as error:
        message = f"optimization_schedule_cron: {error}"
        raise ValueError(message) from error
