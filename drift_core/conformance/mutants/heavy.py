"""A plugin that is slow to import: see `mutants.plugin.ImportsMuch`."""

import hypothesis

from drift_core.conformance.reference.plugin import drift_features

__all__ = ["drift_features", "hypothesis"]
