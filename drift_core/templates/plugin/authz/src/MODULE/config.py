"""The table ``[${name}]``."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``writers`` are names or groups; ``public`` are globs of repositories from which anybody may pull."""

    writers: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
