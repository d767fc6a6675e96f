"""The table ``[${name}]``; address, TLS and limits come as `Services.server`."""

from drift_core.api import Struct


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``enabled`` false leaves the transport closed."""

    enabled: bool = True
