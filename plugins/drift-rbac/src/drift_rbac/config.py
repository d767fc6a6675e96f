"""The keys of ``[rbac]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct
from drift_rbac.globs import is_glob


class RbacConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What holds for everybody; who may do what beyond that is in the database.

    ``enabled`` has to be written as true, unless ``auth.policies`` names ``rbac``. ``default_role`` is held by whoever
    is known and has no global role, "" being none. With ``enable_organization_isolation`` only members reach what an
    organization has. ``enable_team_based_access`` false leaves out teams, ``enable_attribute_based_access`` false every
    permission with an Attribute condition. What was worked out of somebody's roles is kept for ``cache_ttl_seconds`` at
    most, and not beyond the next change. With ``audit_authorization_decisions`` what is allowed is told to the audit
    trail, but for pulls and pushes, which the core tells of.

    ``admins`` are names that have the role admin whatever the database says; ``public`` globs of repositories from
    which anybody may pull. A TimeRange is in ``timezone``, a name of the IANA database.
    """

    enabled: bool = True
    default_role: str = "viewer"
    enable_organization_isolation: bool = True
    enable_team_based_access: bool = True
    enable_attribute_based_access: bool = False
    cache_ttl_seconds: Annotated[float, Meta(gt=0)] = 300
    audit_authorization_decisions: bool = True
    admins: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        for glob in self.public:
            if not is_glob(glob):
                message = f"public: {glob!r} is no glob of repositories"
                raise ValueError(message)
