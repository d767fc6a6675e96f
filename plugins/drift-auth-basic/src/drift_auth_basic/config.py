"""The keys of ``[auth.basic]``."""

from typing import Annotated

from msgspec import Meta

from drift_auth_basic.hashes import cost_of, is_hash
from drift_auth_basic.names import check_password, split_entry
from drift_core.api import Secret, Struct


class BasicConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Who may log in besides the users in the database, and how often they may guess.

    ``users`` are ``NAME:PASSWORD``, where the password may be a hash of bcrypt or argon2. ``htpasswd_files`` are paths
    of files with a ``NAME:HASH`` in each line. Of users with the same name the first counts: those of ``users``, then
    the files in their order, then the database.

    A password that was verified is good for ``remember_seconds`` without another look, 0 is never, unless the user is
    changed. Wrong passwords are counted from the first one for ``failure_window_seconds``: then ``failures_per_user``
    for one name from one address, or ``failures_per_address`` for any name, are the last that are tried; 0 is no limit.
    """

    users: tuple[Secret, ...] = ()
    htpasswd_files: tuple[str, ...] = ()
    remember_seconds: Annotated[float, Meta(ge=0, le=3600)] = 300.0
    failures_per_user: Annotated[int, Meta(ge=0)] = 10
    failures_per_address: Annotated[int, Meta(ge=0)] = 100
    failure_window_seconds: Annotated[float, Meta(gt=0, le=86400)] = 300.0

    def __post_init__(self) -> None:
        """Raises ValueError for a user that cannot be one; it shows nothing of the value."""
        places: dict[str, int] = {}
        for place, user in enumerate(self.users):
            try:
                name = _checked(user)
            except ValueError as error:
                message = f"users[{place}]: {error}"
                raise ValueError(message) from None
            if places.setdefault(name, place) != place:
                message = f"users[{place}]: users[{places[name]}] has the same name"
                raise ValueError(message)


def _checked(user: str) -> str:
    """Returns the name of a user. Raises ValueError with the reason."""
    name, password = split_entry(user)
    if is_hash(password):
        cost_of(password)
    else:
        check_password(password)
    return name
