"""The keys of ``[quota]``."""

import re

from msgspec import field

from drift_core.api import Struct
from drift_quota.sizes import size_of

ORGANIZATION = re.compile(r"[a-z0-9._-]{1,255}")
REPOSITORIES = re.compile(r"[a-z0-9._/*-]{1,255}")


class QuotaConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[quota]``: how many bytes of blobs may be held; a limit is bytes, or text such as ``10GB`` or ``1.5GiB``.

    ``organizations`` has limits by name, ``repositories`` by globs, in which ``*`` is any text; of several that match,
    the one with the longest text before its first ``*`` counts. The others have ``default_organization`` and
    ``default_repository``; None is no limit.
    """

    enabled: bool = False
    organizations: dict[str, int | str] = field(default_factory=dict[str, int | str])
    repositories: dict[str, int | str] = field(default_factory=dict[str, int | str])
    default_organization: int | str | None = None
    default_repository: int | str | None = None

    def __post_init__(self) -> None:
        for table, names, pattern, what in (
            ("organizations", self.organizations, ORGANIZATION, "the first part of a repository's name"),
            ("repositories", self.repositories, REPOSITORIES, "a repository's name or a glob"),
        ):
            for name, limit in names.items():
                if pattern.fullmatch(name) is None:
                    message = f"{table}: {name!r} is not {what}"
                    raise ValueError(message)
                _check(f"{table}.{name}", limit)
        _check("default_organization", self.default_organization)
        _check("default_repository", self.default_repository)


def _check(key: str, limit: int | str | None) -> None:
    if limit is None:
        return
    try:
        size_of(limit)
    except ValueError as error:
        message = f"{key}: {error}"
        raise ValueError(message) from error
