"""What the operator may write in ``[storage.${name}]``."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``path`` is the folder; without it, ``[storage] path``."""

    path: str = "./data"
