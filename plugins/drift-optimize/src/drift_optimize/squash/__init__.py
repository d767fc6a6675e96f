"""Makes one layer of several, which unpacks to the same tree; plain functions, for a process with limits."""

from drift_optimize.squash.refusals import AmbiguousLayers, DamagedLayer, Unsquashable
from drift_optimize.squash.squashing import Squashed, squash

__all__ = ["AmbiguousLayers", "DamagedLayer", "Squashed", "Unsquashable", "squash"]
