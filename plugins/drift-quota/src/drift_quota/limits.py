"""Says which limits count for a repository and its organization."""

import re

from drift_quota.config import QuotaConfig
from drift_quota.sizes import size_of


class Limits:
    """The limits of a configuration, in bytes."""

    def __init__(self, config: QuotaConfig) -> None:
        self._organizations = {name: size_of(limit) for name, limit in config.organizations.items()}
        self._organization = _size(config.default_organization)
        self._repositories = {name: size_of(limit) for name, limit in config.repositories.items() if "*" not in name}
        globs = [glob for glob in config.repositories if "*" in glob]
        # Behind the text before the first star the longer glob counts, and then the order of letters.
        globs.sort(key=lambda glob: (-glob.index("*"), -len(glob), glob))
        self._globs = [(_matching(glob), size_of(config.repositories[glob])) for glob in globs]
        self._repository = _size(config.default_repository)

    def of_organization(self, organization: str) -> int | None:
        """Returns the limit of an organization, None for none."""
        return self._organizations.get(organization, self._organization)

    def of_repository(self, repository: str) -> int | None:
        """Returns the limit of a repository, None for none."""
        named = self._repositories.get(repository)
        if named is not None:
            return named
        for glob, limit in self._globs:
            if glob.fullmatch(repository):
                return limit
        return self._repository


def _size(limit: int | str | None) -> int | None:
    return None if limit is None else size_of(limit)


def _matching(glob: str) -> re.Pattern[str]:
    # What a star has taken is not tried again: names come from clients, and may be made to take long.
    first, *rest = (re.escape(part) for part in re.split(r"\*+", glob))
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + f".*{last}")
