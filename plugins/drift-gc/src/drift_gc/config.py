"""The keys of ``[garbage_collector]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct


class CollectorConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """When the collector runs, what it takes, and what makes it stop.

    It runs every ``interval_hours`` and takes what nothing has reached for ``grace_period_hours``, at most
    ``max_blobs_per_run`` blobs and manifests in a run and ``removals_per_second``, 0 being no limit. With ``dry_run``
    the runs of the server remove nothing, with ``dry_first`` the first one ever does not.

    A run that would take more than ``max_share`` of all blobs and manifests takes nothing, unless there are fewer than
    ``min_removals`` to take.
    """

    enabled: bool = True
    interval_hours: Annotated[float, Meta(gt=0)] = 24.0
    grace_period_hours: Annotated[float, Meta(ge=0)] = 168.0
    dry_run: bool = False
    dry_first: bool = True
    max_blobs_per_run: Annotated[int, Meta(ge=1)] = 1000
    max_share: Annotated[float, Meta(gt=0, le=1)] = 0.2
    min_removals: Annotated[int, Meta(ge=0)] = 100
    removals_per_second: Annotated[float, Meta(ge=0)] = 40.0
