"""The table ``[optimization]``, which every optimizer shares: keys of others are left to them."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True):
    """``max_ratio`` is how many times its size a layer may unpack to."""

    max_ratio: int = 100
