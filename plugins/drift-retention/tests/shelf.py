"""A registry of three methods over tags in memory, some of which may not be deleted, fail, or move meanwhile."""

from collections.abc import AsyncIterator, Callable
from fnmatch import fnmatchcase

from drift_core.api import Denied, Digest, RegistryError, Tag, Unavailable

DAY = 86_400.0


class Changed(RegistryError):
    """The core's errors for a tag that names something else by now, or is gone."""

    code, text = "DENIED", "the tag is not what it was"

    def __init__(self, status: int) -> None:
        self.status = status  # type: ignore[misc]
        super().__init__()


class Shelf:
    """What retention uses of `LocalRegistry`; ``tags_of`` has the tags by repository and name.

    ``before_delete`` is called with each tag that is to be deleted.
    """

    def __init__(self, tags: "dict[str, list[Tag]]", immutable: tuple[str, ...] = ()) -> None:
        self.tags_of = {repository: {tag.name: tag for tag in found} for repository, found in tags.items()}
        self.immutable = immutable
        self.failing: set[str] = set()
        self.silent = False
        self.listed: list[str] = []
        self.before_delete: Callable[[str], None] = lambda _: None

    async def repositories(self) -> AsyncIterator[str]:
        for repository in sorted(self.tags_of):
            if self.silent:
                raise Unavailable("the database does not answer")
            yield repository

    async def tags(self, repository: str) -> AsyncIterator[Tag]:
        self.listed.append(repository)
        for _, tag in sorted(self.tags_of.get(repository, {}).items()):
            yield tag

    async def delete_tag(self, repository: str, tag: str, digest: Digest) -> None:
        self.before_delete(tag)
        current = self.tags_of[repository].get(tag)
        if current is None:
            raise Changed(404)
        if current.digest != digest:
            raise Changed(412)
        if any(fnmatchcase(tag, glob) for glob in self.immutable):
            raise Denied("the tag is immutable")
        if tag in self.failing:
            raise Unavailable("the database does not answer")
        del self.tags_of[repository][tag]

    def names(self, repository: str) -> set[str]:
        return set(self.tags_of[repository])


def tag(name: str, pushed_at: float, tagged_at: float | None = None, undeletable: str | None = None) -> Tag:
    """Returns a tag that names an image of its own."""
    return Tag(name, Digest.of(name.encode()), pushed_at if tagged_at is None else tagged_at, pushed_at, undeletable)
