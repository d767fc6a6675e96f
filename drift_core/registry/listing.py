"""Pages of names: the catalogue, the tags of a repository, the referrers of a manifest; each one keyset query."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

from drift_core.errors import NameUnknown
from drift_core.metadata import queries
from drift_core.metadata.database import Database
from drift_core.model import Descriptor, Digest, Visible

T = TypeVar("T")

MAX_PAGE = 1000
"""Most entries on one page, whatever the client asks for."""

MAX_PAGE_BYTES = (4 << 20) - 1024
"""Most bytes of one page of referrers, of which a client reads as much as of any manifest; one alone may be larger."""


class Page(Struct, Generic[T], frozen=True):
    """Entries in binary order; ``more`` says whether others follow the last one."""

    entries: Sequence[T]
    more: bool


class Listing:
    """Asks the database for one entry more than a page has, so that it never counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def repositories(self, after: str, limit: int, visible: Sequence[Visible] | None = None) -> Page[str]:
        """Returns up to ``limit`` names of repositories behind ``after``: all, or those that are visible."""

        def query(db: Connection) -> list[str]:
            if visible is None:
                return queries.repository_names(db, after, limit + 1)
            return queries.visible_repository_names(db, after, limit + 1, visible)

        return _page(await self._database.read(query), limit)

    async def tags(self, repository: str, after: str, limit: int) -> Page[str]:
        """Returns up to ``limit`` tags behind ``after``. Raises `NameUnknown`."""

        def query(db: Connection) -> list[str]:
            row = queries.repository_id(db, repository)
            if row is None:
                raise NameUnknown(name=repository)
            return queries.tag_names(db, row, after, limit + 1)

        return _page(await self._database.read(query), limit)

    async def referrers(
        self, repository: str, subject: Digest, artifact_type: str | None, after: str, limit: int
    ) -> Page[Descriptor]:
        """Returns up to ``limit`` manifests that name ``subject``, of one artifact type or of all, behind ``after``."""
        entries, more = await self._database.read(
            lambda db: queries.referrers(db, repository, subject, artifact_type, after, limit, MAX_PAGE_BYTES)
        )
        return Page(entries, more)


def _page(found: Sequence[T], limit: int) -> Page[T]:
    return Page(found[:limit], len(found) > limit)
