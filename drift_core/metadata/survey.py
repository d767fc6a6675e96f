"""One pass over what nothing reaches: what may be removed, manifests before their parts, and nothing but that.

It looks at what `reach` has entered, and at what that reaches, never at the rest of the registry.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, Integer, Select, and_, bindparam, delete, func, select, tuple_

from drift_core.metadata.locks import shared
from drift_core.metadata.reach import (
    EDGES,
    UNKNOWN,
    Kind,
    is_bound,
    is_named,
    is_there,
    lost_a_tag,
    naming,
    scheme_tags,
    unreached_since,
    waits,
)
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import (
    blobs,
    manifest_blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    unreached,
)
from drift_core.model import Digest
from drift_core.protocols.collection import Candidate

PAGE = 20
"""Rows that one query looks at: others wait for the thread meanwhile."""


class Limits(Struct, frozen=True):
    """What a pass may return: unreached since ``before``, pushed up to ``pushed_before``, in seconds since the epoch.

    Where ``protected``, a manifest with referrers stays, and so do they.
    """

    before: float
    pushed_before: float
    protected: bool


class Stale(Struct, frozen=True):
    """A row of something that is reached again, or is gone."""

    repository: int
    name: str
    kind: Kind
    digest: str


class _Node(Struct, frozen=True):
    """A manifest that is looked at; ``since`` is when the last thing that reached it went."""

    row: int
    repository: int
    name: str
    digest: str
    size: int
    since: float


class _Naming(Struct):
    """What is known of the manifests that have a part: ``left`` of them at least are not gone.

    It is all of them if it ``is_all``; no more than ``looked`` were looked at.
    """

    left: int = 0
    looked: int = 8
    is_all: bool = False


def _named_by(kind: Kind) -> Statement:
    edges = EDGES[kind]
    here = edges.c.repository_id.in_([bindparam("repository"), bindparam("unknown")])
    query = select(edges.c.manifest_id).where(here, edges.c.digest == bindparam("digest"))
    return Statement(query.limit(bindparam("most", type_=Integer)))


_NAMING: Mapping[Kind, Statement] = {kind: _named_by(kind) for kind in EDGES}


def _manifests() -> Select[Any]:
    waits = and_(
        unreached.c.repository_id == manifests.c.repository_id,
        unreached.c.kind == "manifest",
        unreached.c.digest == manifests.c.digest,
    )
    columns = (manifests.c.id, manifests.c.digest, manifests.c.size, manifests.c.pushed_at, unreached.c.since)
    return select(*columns).select_from(manifests).outerjoin(unreached, waits)


_HERE = manifests.c.repository_id == bindparam("repository")
_CHILDREN = Statement(
    _manifests()
    .join(
        manifest_children,
        and_(
            manifest_children.c.repository_id == manifests.c.repository_id,
            manifest_children.c.digest == manifests.c.digest,
        ),
    )
    .where(manifest_children.c.manifest_id == bindparam("manifest"))
)
# Apart: for one with OR SQLite reads every manifest of the repository.
_REFERRERS = Statement(_manifests().where(_HERE, manifests.c.subject == bindparam("digest")))
_MANIFEST = Statement(_manifests().where(_HERE, manifests.c.digest == bindparam("digest")))
_BLOBS = Statement(
    select(manifest_blobs.c.digest, blobs.c.size, blobs.c.created_at, unreached.c.since)
    .select_from(manifest_blobs)
    # Outer joins, since SQLite would begin an inner one with every blob of the repository.
    .outerjoin(
        repository_blobs,
        and_(
            repository_blobs.c.repository_id == bindparam("repository"),
            repository_blobs.c.digest == manifest_blobs.c.digest,
        ),
    )
    .outerjoin(blobs, blobs.c.digest == repository_blobs.c.digest)
    .outerjoin(
        unreached,
        and_(
            unreached.c.repository_id == bindparam("repository"),
            unreached.c.kind == "blob",
            unreached.c.digest == manifest_blobs.c.digest,
        ),
    )
    .where(manifest_blobs.c.manifest_id == bindparam("manifest"))
)


class Survey:
    """Answers page after page, until `done`; in order, and one at a time.

    What it has returned counts as gone for what comes later, whether or not it is removed meanwhile.
    """

    def __init__(self, limits: Limits) -> None:
        self._last = False
        self._nodes: list[_Node] = []
        """Manifests to be looked at, the next one last."""
        self._limits = limits
        self._kind: Kind = "manifest"
        self._behind: tuple[float, int, str] | None = None
        self._gone: dict[int, set[str]] = {}
        self._ended: dict[int, set[str]] = {}
        """Tags that end with what is gone."""
        self._gone_rows: set[int] = set()
        self._naming: dict[tuple[int, Kind, str], _Naming] = {}
        self._lost: dict[tuple[int, Kind, str], float] = {}
        self._returned: set[tuple[int, Kind, str]] = set()

    def page(self, db: Connection) -> tuple[list[Candidate], list[Stale]]:
        """Returns candidates, and rows that may be taken out of the table, since something reaches what they name."""
        found: list[Candidate] = []
        stale: list[Stale] = []
        if not self._nodes:
            found, stale = self._next_rows(db)
        for _ in range(min(PAGE, len(self._nodes))):
            found += self._with_blobs(db, self._nodes.pop())
        return found, stale

    def _next_rows(self, db: Connection) -> tuple[list[Candidate], list[Stale]]:
        rows = db.execute(self._rows()).all()
        found: list[Candidate] = []
        stale: list[Stale] = []
        for row in rows:
            self._behind = (row.since, row.repository_id, row.digest)
            key = (row.repository_id, self._kind, row.digest)
            if key in self._returned:
                continue
            if row.size is None or self._names(db, key):
                stale.append(Stale(row.repository_id, row.name, self._kind, row.digest))
            elif row.pushed_at > self._limits.pushed_before:
                continue
            elif self._kind == "blob":
                found.append(self._return(key, row.name, row.size, row.since))
            elif self._since(db, row.repository_id, row.digest) is None:
                stale.append(Stale(row.repository_id, row.name, self._kind, row.digest))
            else:
                self._nodes.append(_Node(row.row, row.repository_id, row.name, row.digest, row.size, row.since))
        if len(rows) < PAGE:
            self._ended_kind()
        return found, stale

    def _ended_kind(self) -> None:
        self._last = self._kind == "blob"
        self._kind, self._behind = "blob", None

    def again(self) -> None:
        """Begins once more with the rows, to return what it has not returned yet."""
        self._kind, self._behind, self._last = "manifest", None, False

    @property
    def done(self) -> bool:
        """Whether there are no more pages."""
        return self._last and not self._nodes

    def _rows(self) -> Select[Any]:
        place = (unreached.c.since, unreached.c.repository_id, unreached.c.digest)
        query = select(*place, repositories.c.name).select_from(unreached).join(repositories)
        query = query.where(unreached.c.kind == self._kind)
        query = query.where(unreached.c.since <= self._limits.before).order_by(*place).limit(PAGE)
        if self._kind == "blob":
            here = and_(
                repository_blobs.c.repository_id == unreached.c.repository_id,
                repository_blobs.c.digest == unreached.c.digest,
            )
            query = query.outerjoin(repository_blobs, here).outerjoin(
                blobs, blobs.c.digest == repository_blobs.c.digest
            )
            query = query.add_columns(blobs.c.size, blobs.c.created_at.label("pushed_at"))
        else:
            here = and_(
                manifests.c.repository_id == unreached.c.repository_id, manifests.c.digest == unreached.c.digest
            )
            query = query.outerjoin(manifests, here)
            query = query.add_columns(manifests.c.id.label("row"), manifests.c.size, manifests.c.pushed_at)
        if self._behind is not None:
            query = query.where(tuple_(*place) > tuple_(*self._behind))
        return query

    def _return(self, key: tuple[int, Kind, str], name: str, size: int, since: float) -> Candidate:
        self._returned.add(key)
        repository, kind, digest = key
        if kind == "manifest":
            self._gone.setdefault(repository, set()).add(digest)
        return Candidate(kind, name, Digest(digest), size, since)

    def _names(self, db: Connection, key: tuple[int, Kind, str]) -> bool:
        """Says whether a manifest that is not gone has this as a part.

        It looks at a few, and at more of them only as those go: it costs no more where every image has the part.
        """
        repository, kind, digest = key
        naming = self._naming.setdefault(key, _Naming())
        while not naming.left and not naming.is_all:
            naming.looked *= 2
            rows = _NAMING[kind].rows(db, repository=repository, unknown=UNKNOWN, digest=digest, most=naming.looked)
            naming.left = sum(row not in self._gone_rows for (row,) in rows)
            naming.is_all = len(rows) < naming.looked
        return naming.left > 0

    def _took(self, key: tuple[int, Kind, str]) -> None:
        """Notes that a manifest is gone that has this as a part."""
        naming = self._naming.get(key)
        if naming is not None and naming.left:
            naming.left -= 1

    def _is_protected(self, db: Connection, node: _Node) -> bool:
        return self._limits.protected and is_bound(db, node.repository, node.digest)

    def _with_blobs(self, db: Connection, node: _Node) -> list[Candidate]:
        """Returns a manifest, and the blobs that go with it, if it may go; the manifests that may follow come next.

        One that may not, since something that is not gone yet reaches it, comes again when that goes.
        """
        key: tuple[int, Kind, str] = (node.repository, "manifest", node.digest)
        if key in self._returned or self._names(db, key) or self._is_protected(db, node):
            return []
        since = self._since(db, node.repository, node.digest)
        if since is None:
            return []
        node = structs.replace(node, since=max(since, self._latest(key, node.since)))
        if node.since > self._limits.before:
            return []
        children = self._children(db, node)
        parts = self._blobs(db, node)
        found = [self._return(key, node.name, node.size, node.since)]
        self._gone_rows.add(node.row)
        for child, _ in children:
            self._took((node.repository, "manifest", child.digest))
        for one, old in (*children, *self._artifacts(db, node)):
            self._latest((one.repository, "manifest", one.digest), one.since)
            self._nodes += [one] if old else []
        for digest, size, since, old in parts:
            part: tuple[int, Kind, str] = (node.repository, "blob", digest)
            self._took(part)
            latest = self._latest(part, since)
            if old and part not in self._returned and not self._names(db, part):
                found.append(self._return(part, node.name, size, latest))
        return found

    def _latest(self, key: tuple[int, Kind, str], since: float) -> float:
        """Returns since when something is unreached: since the last went of what is gone, or it was wanted itself."""
        self._lost[key] = max(since, self._lost.get(key, 0.0))
        return self._lost[key]

    def _since(self, db: Connection, repository: int, digest: str) -> float | None:
        return unreached_since(db, repository, digest, self._gone.get(repository, ()), self._ended.get(repository, ()))

    def _children(self, db: Connection, node: _Node) -> list[tuple[_Node, bool]]:
        return [self._seen(row, node) for row in _CHILDREN.rows(db, manifest=node.row)]

    def _artifacts(self, db: Connection, node: _Node) -> list[tuple[_Node, bool]]:
        """Returns the manifests whose subject a manifest is, by their field or by a tag that says so."""
        ending = scheme_tags(db, node.repository, node.digest)
        self._ended.setdefault(node.repository, set()).update(tag for tag, _ in ending)
        rows = _REFERRERS.rows(db, repository=node.repository, digest=node.digest)
        for digest in {digest for _, digest in ending} - {row[1] for row in rows}:
            rows += _MANIFEST.rows(db, repository=node.repository, digest=digest)
        return [self._seen(row, node) for row in rows]

    def _seen(self, row: tuple[Any, ...], above: _Node) -> tuple[_Node, bool]:
        """Returns a part of what goes, and whether it is old enough to go with it."""
        number, digest, size, pushed, waiting = row
        since = above.since if waiting is None else max(waiting, above.since)
        node = _Node(number, above.repository, above.name, digest, size, since)
        return node, since <= self._limits.before and pushed <= self._limits.pushed_before

    def _blobs(self, db: Connection, node: _Node) -> list[tuple[str, int, float, bool]]:
        """Returns the blobs of a manifest with their bytes, since when each is unreached, and if long enough."""
        found: list[tuple[str, int, float, bool]] = []
        for digest, size, pushed, waiting in _BLOBS.rows(db, repository=node.repository, manifest=node.row):
            if size is None:
                continue
            since = node.since if waiting is None else max(waiting, node.since)
            old = since <= self._limits.before and pushed <= self._limits.pushed_before
            found.append((digest, size, since, old))
        return found


def take_out(db: Connection, stale: Collection[Stale], before: float) -> bool:
    """Takes rows out that `Survey.page` has found to be reached, if they still are, and not wanted after ``before``.

    Says whether it entered others in their place, of what is unreached as well.
    """
    for name in sorted({one.name for one in stale}):
        # Whoever removes what reaches them enters them anew, or has done so.
        shared(db, f"repository:{name}")
    entered = False
    for one in stale:
        key = (unreached.c.repository_id == one.repository) & (unreached.c.kind == one.kind)
        row = key & (unreached.c.digest == one.digest) & (unreached.c.since <= before)
        since = db.execute(select(unreached.c.since).where(row)).scalar()
        if since is None:
            continue
        named = is_named(db, one.repository, one.kind, one.digest)
        above = named and one.kind == "manifest" and unreached_since(db, one.repository, one.digest) is not None
        if above:
            # It goes with what names it, which may have no row: it may be about something that it reaches itself.
            for index in naming(db, one.repository, one.digest):
                if not waits(db, one.repository, "manifest", index):
                    lost_a_tag(db, one.repository, index, since)
                    entered = True
        if named or _is_reached_or_gone(db, one):
            db.execute(delete(unreached).where(row))
    return entered


def _is_reached_or_gone(db: Connection, one: Stale) -> bool:
    if not is_there(db, one.repository, one.kind, one.digest):
        return True
    return one.kind == "manifest" and unreached_since(db, one.repository, one.digest) is None


def waiting(db: Connection, before: Sequence[float], at_most: int | None = None) -> list[int]:
    """Returns how many rows wait that are unreached since each of the moments ``before``; counts to ``at_most``."""
    return [
        int(
            db.execute(
                select(func.count()).select_from(
                    select(unreached.c.digest).where(unreached.c.since <= moment).limit(at_most).subquery()
                )
            ).scalar_one()
        )
        for moment in before
    ]
