"""Judges a repository while somebody waits, for the console and for who asks over HTTP; nothing is dropped."""

from typing import TYPE_CHECKING, Final

from drift_core.api import Denied, RegistryError
from drift_retention.judging import Judged

if TYPE_CHECKING:
    from drift_retention.retention import Retention

MOST: Final = 10_000
"""Tags of a repository that is judged while somebody waits; the command has no such limit."""


class RepositoryUnknown(RegistryError):
    """There is no such repository, or it has no tags."""

    code, status, text = "NAME_UNKNOWN", 404, "there is no such repository, or it has no tags"


class TagUnknown(RegistryError):
    """The repository has no such tag."""

    code, status, text = "MANIFEST_UNKNOWN", 404, "the repository has no such tag"


async def explain(retention: "Retention", repository: str) -> list[Judged]:
    """Returns what `Retention.judge` does. Raises `Denied` for too many tags, `RepositoryUnknown`, `Unavailable`."""
    registry, number = retention.registry, 0
    async for _ in registry.tags(repository):
        number += 1
        if number > MOST:
            raise Denied(f"{repository} has more than {MOST} tags: ask `drift retention explain`", name=repository)
    if not number:
        raise RepositoryUnknown(name=repository)
    return await retention.judge(registry, repository)
