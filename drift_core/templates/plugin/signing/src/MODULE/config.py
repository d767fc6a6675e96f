"""The table ``[signing]``, which every signature format shares."""

from drift_core.api import Secret, Struct


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """``id`` is what a request for a signature names; ``secret`` is any text."""

    id: str
    secret: Secret


class ${prefix}Config(Struct, frozen=True, forbid_unknown_fields=True):
    """``hmac_keys`` sign, and are trusted; a signature is good for ``max_signature_age_hours``."""

    hmac_keys: tuple[Key, ...] = ()
    max_signature_age_hours: float = 720
