"""The table ``[optimization]``, which every optimizer shares."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``max_ratio`` is how many times its size a layer may unpack to."""

    max_ratio: int = 100
