"""What the operator may write in ``[${name}]``."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``frozen`` has globs of repositories that nobody may push to."""

    frozen: tuple[str, ...] = ()
