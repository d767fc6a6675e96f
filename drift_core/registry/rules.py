"""The limits and rules that the registry enforces, as the operator set them in ``[registry]``."""

from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from drift_core.errors import NameInvalid, ReferenceInvalid
from drift_core.model import MAX_NAME_LENGTH, REPOSITORY_NAME, TAG


class Rules(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds; the rules of tags are globs.

    ``lease`` is how long something stays that a client was told is there, at most, and half of it at least. What was
    removed can be restored for ``restorable``, or ``lease`` where that is longer.
    """

    max_blob_size: int
    max_manifest_size: int
    immutable_tags: tuple[str, ...]
    no_overwrite_tags: tuple[str, ...]
    no_delete_tags: tuple[str, ...]
    min_age: float
    referrers: Literal["cascade", "protect"]
    lease: float
    restorable: float
    sparse_manifests: bool
    upload_expiry: float

    def not_to_move(self, tag: str) -> str | None:
        """Returns the rule that forbids to move a tag, or None."""
        return _rule(tag, immutable_tags=self.immutable_tags, no_overwrite_tags=self.no_overwrite_tags)

    def not_to_delete(self, tag: str) -> str | None:
        """Returns the rule that forbids to delete a tag, or None."""
        return _rule(tag, immutable_tags=self.immutable_tags, no_delete_tags=self.no_delete_tags)

    @property
    def in_trash(self) -> float:
        """Seconds for which the bytes of what was removed stay: nobody who was told of them comes too late."""
        return max(self.restorable, self.lease)


def _rule(tag: str, **rules: tuple[str, ...]) -> str | None:
    matching = (f"registry.{key}: {glob}" for key, globs in rules.items() for glob in globs if fnmatchcase(tag, glob))
    return next(matching, None)


def check_name(name: str) -> str:
    """Returns ``name``. Raises `NameInvalid` where it is no repository name."""
    if len(name) > MAX_NAME_LENGTH:
        raise NameInvalid(f"a repository name has at most {MAX_NAME_LENGTH} characters", name=name[:64])
    if REPOSITORY_NAME.fullmatch(name) is None:
        raise NameInvalid(name=name)
    return name


def check_tag(tag: str) -> str:
    """Returns ``tag``. Raises `ReferenceInvalid` where it is no tag."""
    if TAG.fullmatch(tag) is None:
        raise ReferenceInvalid("not a tag", tag=tag[:256])
    return tag
