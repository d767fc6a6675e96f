"""The table ``[garbage_collector]``."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What nothing has reached for ``grace_period_hours`` is removed."""

    grace_period_hours: float = 168
