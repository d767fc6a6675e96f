"""Lists repositories and images, and finds them: pages of a bounded size, each read from an index."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, and_, case, select, true, tuple_

from drift_core.api import Identity, Records
from drift_ui.indexing import LONGEST_KEY, LONGEST_VALUE
from drift_ui.permitting import Permitting
from drift_ui.querying import Query
from drift_ui.tables import days, fitted, grams, images, labels, layers, repositories, terms, totals
from drift_ui.terms import grams_of, likeness, shared

PAGE = 50
ROUNDS = 10
"""How many pages of names one request looks through for those that who asks may see."""

GAP = 500
"""Names of each page but the first: those that come before may not be seen."""

POSTINGS = 100
"""Terms, or repositories, of one gram or term that a search looks at."""

LOOKED_AT = 2000
"""Images that a search looks through."""

CANDIDATES = 100
COMPARED = 50
"""Terms that have the most grams in common with a word, and are compared with it character by character."""

LIKE_ENOUGH = 0.6
"""How like a word and a term are where one is meant by the other."""

Sort = Literal["name", "updated", "size", "pulls"]
_ORDERS: dict[Sort, Any] = {
    "updated": repositories.c.updated_at,
    "size": repositories.c.size,
    "pulls": repositories.c.pulls,
}


class Repositories(Struct, frozen=True):
    """A page of repositories; ``after`` is what the next one begins behind, None where there is none."""

    rows: Sequence[Any]
    after: str | None


class Images(Struct, frozen=True):
    """Images that were found, and whether there may be more than were looked through."""

    rows: Sequence[Any]
    more: bool


class Finding:
    """Answers only of what somebody may pull."""

    def __init__(self, records: Records, permitting: Permitting) -> None:
        self._records = records
        self._permitting = permitting

    async def repositories(self, identity: Identity | None, sort: Sort, prefix: str, after: str) -> Repositories:
        """Returns a page in the order of names, or of another column, from its largest value down."""
        permitted = await self._permitting.condition(identity, repositories.c.name)
        rows: list[Any] = []
        behind = after
        for most in (PAGE + 1, *[GAP] * (ROUNDS - 1)):
            query = _repositories(sort, prefix, behind, permitted).limit(most)
            page = await self._records.read(partial(_all, query=query))
            rows += await self._seen(identity, page, lambda row: row.name)
            if len(rows) > PAGE:
                rows = rows[:PAGE]
                break
            if len(page) < most:
                return Repositories(rows, None)
            behind = _key(sort, page[-1])
        # It is in an address: never the name of what may not be seen.
        return Repositories(rows, _key(sort, rows[-1]) if rows else None)

    async def repository(self, name: str) -> Any:
        """Returns what is known of a repository, or None."""
        rows = await self._records.read(partial(_all, query=select(repositories).where(repositories.c.name == name)))
        return next(iter(rows), None)

    async def tags(self, repository: str, after: str) -> tuple[Sequence[Any], str | None]:
        """Returns a page of a repository's images, the newest first, and what the next one begins behind."""
        query = select(images).where(images.c.repository == repository)
        if after:
            at, _, tag = after.partition(" ")
            query = query.where(tuple_(images.c.pushed_at, images.c.tag) < tuple_(_number(at), tag))
        query = query.order_by(images.c.pushed_at.desc(), images.c.tag.desc()).limit(PAGE + 1)
        rows = await self._records.read(partial(_all, query=query))
        more = f"{rows[PAGE - 1].pushed_at!r} {rows[PAGE - 1].tag}" if len(rows) > PAGE else None
        return rows[:PAGE], more

    async def tags_of(self, repository: str, digest: str) -> Sequence[Any]:
        """Returns some of the images of a repository that are one manifest."""
        named = and_(images.c.digest == digest, images.c.repository == repository)
        return await self._records.read(partial(_all, query=select(images).where(named).limit(PAGE)))

    async def newest(self, identity: Identity | None, limit: int) -> Sequence[Any]:
        """Returns the images that were pushed last."""
        permitted = await self._permitting.condition(identity, images.c.repository)
        query = select(images).where(permitted).order_by(images.c.pushed_at.desc(), images.c.repository, images.c.tag)
        found: list[Any] = []
        for start in range(0, ROUNDS * PAGE, PAGE):
            page = await self._records.read(partial(_all, query=query.limit(PAGE).offset(start)))
            found += await self._seen(identity, page, lambda row: row.repository)
            if len(found) >= limit or len(page) < PAGE:
                break
        return found[:limit]

    async def days(self, repository: str, since: int) -> Sequence[Any]:
        """Returns what happened on each day since one, in order; of all repositories where the name is empty."""
        query = select(days).where(days.c.repository == repository, days.c.day >= since).order_by(days.c.day)
        return await self._records.read(partial(_all, query=query))

    async def totals(self) -> Any:
        """Returns the numbers of everything, or None while nothing is known."""
        return next(iter(await self._records.read(partial(_all, query=select(totals)))), None)

    async def suggestions(self, identity: Identity | None) -> Sequence[str]:
        """Returns names that are likely to be typed."""
        page = await self.repositories(identity, "updated", "", "")
        return [row.name for row in page.rows]

    async def search(self, identity: Identity | None, query: Query) -> tuple[Sequence[Any], Images]:
        """Returns the repositories that fit the words best, and the images that fit everything."""
        names = await self._named(identity, query) if query.words else None
        found: Sequence[Any] = ()
        if not query.asks_images:
            found = await self._ranked(identity, query, names)
        if not query.asks_images and query.repository is None and not query.words:
            return found, Images((), more=False)
        permitted, labelled, layered = [
            await self._permitting.condition(identity, table.c.repository) for table in (images, labels, layers)
        ]
        fitting = _images(query, None if names is None else dict(names), permitted, labelled, layered)
        rows = await self._first(identity, fitting)
        return found, Images(rows[:PAGE], more=len(rows) > PAGE)

    async def _first(self, identity: Identity | None, query: Select[Any]) -> list[Any]:
        """Returns the first images that may be seen, one more than a page where there are so many."""
        rows: list[Any] = []
        start = 0
        for most in (PAGE + 1, *[GAP] * math.ceil(LOOKED_AT / GAP)):
            page = await self._records.read(partial(_all, query=query.limit(most).offset(start)))
            rows += await self._seen(identity, page, lambda row: row.repository)
            start += len(page)
            if len(rows) > PAGE or len(page) < most:
                break
        return rows

    async def _named(self, identity: Identity | None, query: Query) -> list[tuple[str, float]]:
        """Returns the repositories that may be seen whose names fit every word, and how well, the best first."""
        scores: dict[str, float] = {}
        for place, word in enumerate(query.words):
            found = await self._fitting(identity, word)
            # Every word has to fit.
            scores = {
                name: score + scores.get(name, 0.0) for name, score in found.items() if place == 0 or name in scores
            }
            if not scores:
                return []
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return ranked[:CANDIDATES]

    async def _fitting(self, identity: Identity | None, word: str) -> dict[str, float]:
        """Returns repositories with a term that a word is or begins; else, as it is mistyped then, is like."""
        permitted = await self._permitting.condition(identity, terms.c.repository)
        for look in (_begun, _alike):
            found = await self._records.read(partial(look, word=word, permitted=permitted))
            allowed = await self._permitting.allowed(identity, list(found))
            if allowed:
                return {name: score for name, score in found.items() if name in allowed}
        return {}

    async def _ranked(
        self, identity: Identity | None, query: Query, names: Sequence[tuple[str, float]] | None
    ) -> Sequence[Any]:
        if names is None:
            return (await self.repositories(identity, "name", query.repository or "", "")).rows
        rank = {name: score for name, score in names if name.startswith(query.repository or "")}
        named = select(repositories).where(repositories.c.name.in_(sorted(rank)))
        rows = await self._records.read(partial(_all, query=named))
        return sorted(rows, key=lambda row: (-rank[row.name], -row.pulls, row.name))[:PAGE]

    async def _seen(self, identity: Identity | None, rows: Sequence[Any], name: Callable[[Any], str]) -> list[Any]:
        allowed = await self._permitting.allowed(identity, [name(row) for row in rows])
        return [row for row in rows if name(row) in allowed]


def _all(db: Connection, query: Select[Any]) -> Sequence[Any]:
    return db.execute(query).all()


def _repositories(sort: Sort, prefix: str, after: str, permitted: ColumnElement[bool]) -> Select[Any]:
    name = repositories.c.name
    query = select(repositories).where(permitted)
    if prefix:
        query = query.where(name >= prefix, name < f"{prefix}{{")
    column = _ORDERS.get(sort)
    if column is None:
        query = query.where(name > after) if after else query
        return query.order_by(name)
    if after:
        value, _, last = after.partition(" ")
        query = query.where(tuple_(column, name) < tuple_(_number(value), last))
    return query.order_by(column.desc(), name.desc())


def _key(sort: Sort, row: Any) -> str:
    values = {"updated": row.updated_at, "size": row.size, "pulls": row.pulls}
    return row.name if sort == "name" else f"{values[sort]!r} {row.name}"


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _begun(db: Connection, word: str, permitted: ColumnElement[bool]) -> dict[str, float]:
    """Returns repositories with a term that a word is or begins, and how well each fits."""
    found: dict[str, float] = {}
    begins = and_(terms.c.term >= word, terms.c.term < f"{word}{{")
    for column in (terms.c.term == word, begins):
        query = select(terms.c.term, terms.c.repository).where(column, permitted).limit(CANDIDATES)
        for term, name in db.execute(query):
            score = 4.0 if name == word else 3.0 if term == word else 2.0 + len(word) / len(term) / 2
            found[name] = max(score, found.get(name, 0.0))
    return found


def _alike(db: Connection, word: str, permitted: ColumnElement[bool]) -> dict[str, float]:
    """Returns repositories with a term that is like a word, and how like."""
    found: dict[str, float] = {}
    for term, score in _like(db, word):
        query = select(terms.c.repository).where(terms.c.term == term, permitted).limit(POSTINGS)
        for name in db.execute(query).scalars():
            found[name] = max(score, found.get(name, 0.0))
    return found


def _like(db: Connection, word: str) -> list[tuple[str, float]]:
    """Returns the terms that are most like a word, and how like."""
    candidates: set[str] = set()
    for gram in sorted(grams_of(word)):
        rows = db.execute(select(grams.c.term).where(grams.c.gram == gram).limit(POSTINGS)).scalars()
        candidates.update(rows)
    nearest = sorted(candidates, key=lambda term: (-shared(word, term), term))[:COMPARED]
    scored = [(term, likeness(word, term)) for term in nearest]
    return sorted((one for one in scored if one[1] >= LIKE_ENOUGH), key=lambda one: (-one[1], one[0]))[:10]


def _images(
    query: Query,
    names: Mapping[str, float] | None,
    permitted: ColumnElement[bool],
    labelled: ColumnElement[bool],
    layered: ColumnElement[bool],
) -> Select[Any]:
    """Returns the query for images: what an index finds quickly first, at most `LOOKED_AT`, then all the rest.

    The best come first: those of just this tag, of a repository that fits the words well, and the newest.
    """
    (narrow, order), *others = [*_conditions(query, names, labelled, layered), (_anything, _NEWEST)]
    first = select(images).where(narrow(images.c), permitted).order_by(*([] if order is None else [order]))
    looked = first.limit(LOOKED_AT).subquery()
    best = [
        *([] if query.tag is None else [looked.c.tag != query.tag]),
        *([] if not names else [case(dict(names), value=looked.c.repository, else_=0.0).desc()]),
        looked.c.pushed_at.desc(),
        looked.c.repository,
        looked.c.tag,
    ]
    return select(looked).where(*(condition(looked.c) for condition, _ in others)).order_by(*best)


def _anything(of: Any) -> ColumnElement[bool]:
    del of
    return true()


_NEWEST: Any = images.c.pushed_at.desc()


def _conditions(
    query: Query, names: Mapping[str, float] | None, labelled: ColumnElement[bool], layered: ColumnElement[bool]
) -> list[tuple[Callable[[Any], ColumnElement[bool]], Any]]:
    """Returns what is asked of the columns of images, first what leaves the fewest, by an index.

    Beside each is the order in which images are looked through for it, None for any.
    """
    every: list[tuple[bool, Callable[[Any], ColumnElement[bool]], Any]] = [
        (query.digest is not None, lambda of: _begins(of.digest, query.digest), None),
        (query.layer is not None, lambda of: _layered(of, query.layer, layered), None),
        (names is not None, lambda of: of.repository.in_(list(names or ())), None),
        (query.label is not None, lambda of: _labelled(of, query.label, labelled), None),
        (query.tag is not None, lambda of: _begins(of.tag, query.tag), None),
        (query.repository is not None, lambda of: _begins(of.repository, query.repository), None),
        (query.larger is not None, lambda of: of.size > query.larger, images.c.size.desc()),
        (query.smaller is not None, lambda of: of.size < query.smaller, images.c.size),
        (query.signed is not None, lambda of: of.verified.is_(query.signed), _NEWEST),
        (query.older is not None, lambda of: of.pushed_at <= query.older, _NEWEST),
        (query.newer is not None, lambda of: of.pushed_at >= query.newer, _NEWEST),
    ]
    return [(condition, order) for asked, condition, order in every if asked]


def _layered(of: Any, layer: str | None, permitted: ColumnElement[bool]) -> ColumnElement[bool]:
    named = select(layers.c.repository, layers.c.tag).where(_begins(layers.c.digest, layer), permitted)
    within: ColumnElement[bool] = tuple_(of.repository, of.tag).in_(named.limit(LOOKED_AT))
    return within


def _labelled(of: Any, label: tuple[str, str | None] | None, permitted: ColumnElement[bool]) -> ColumnElement[bool]:
    key, value = label or ("", None)
    named = select(labels.c.repository, labels.c.tag).where(labels.c.key == fitted(key, LONGEST_KEY), permitted)
    if value is not None:
        named = named.where(labels.c.value == fitted(value, LONGEST_VALUE))
    within: ColumnElement[bool] = tuple_(of.repository, of.tag).in_(named.limit(LOOKED_AT))
    return within


def _begins(column: Any, text: str | None) -> ColumnElement[bool]:
    # Behind every character that names, tags and digests have.
    within: ColumnElement[bool] = and_(column >= (text or ""), column < f"{text or ''}{{")
    return within
