"""The table ``[auth.${name}]``; keys of ``[auth]`` itself are its defaults."""

from drift_core.api import Secret, Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``users`` are entries ``name:rounds:salt:hash``, as `${module}.authenticator.entry` writes them."""

    users: tuple[Secret, ...] = ()
