"""The limits and rules that the registry enforces, as the operator set them in ``[registry]``."""

from fnmatch import fnmatchcase

from msgspec import Struct

from drift_core.errors import NameInvalid, ReferenceInvalid
from drift_core.model import MAX_NAME_LENGTH, REPOSITORY_NAME, TAG


class Rules(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds; ``immutable_tags`` are globs."""

    max_blob_size: int
    max_manifest_size: int
    immutable_tags: tuple[str, ...]
    sparse_manifests: bool
    upload_expiry: float

    def immutable(self, tag: str) -> str | None:
        """Returns the glob that forbids to move or delete a tag, or None."""
        return next((glob for glob in self.immutable_tags if fnmatchcase(tag, glob)), None)


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
