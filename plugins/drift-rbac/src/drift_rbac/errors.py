"""What a client of the management routes may be told, beside what the registry itself says."""

from drift_core.api import RegistryError


class EntityUnknown(RegistryError):
    """There is no such organization, team, user or role."""

    code, status, text = "NAME_UNKNOWN", 404, "not known"


class EntityInvalid(RegistryError):
    """A body or a parameter that cannot be used; the message has the path of what is wrong."""

    code, status, text = "UNSUPPORTED", 400, "the request cannot be used"


class Conflict(RegistryError):
    """What is asked for does not go together with what is there."""

    code, status, text = "DENIED", 409, "this is not possible as things are"
