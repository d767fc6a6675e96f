"""The table ``[${name}]``."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``public`` are globs of repositories from which anybody may pull; a name is no group, whatever it says."""

    writers: tuple[str, ...] = ()
    writing_groups: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
