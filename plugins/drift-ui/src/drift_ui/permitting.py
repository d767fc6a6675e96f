"""Shows of a list only what who asks may pull: within its query where the policies say so, else row by row."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, and_, false, or_, true

from drift_core.api import Access, Audit, AuditEvent, Denied, Identity, Scope, Visible

T = TypeVar("T")

MOST_GLOBS = 200
"""Globs that one query compares; of more, the verdicts alone decide."""


async def check(access: Access, audit: Audit, identity: Identity | None, scope: Scope) -> None:
    """Raises `Denied` where somebody has not got a right, which an audit trail keeps."""
    if (await access.verdicts(identity, [scope]))[0]:
        return
    event = AuditEvent(
        type="PermissionDenied",
        severity="warning",
        success=False,
        reason=f"{'nobody in particular' if identity is None else identity.name} may not use {scope}",
        identity=identity,
        resource_type=scope.kind.capitalize(),
        resource_id=scope.name,
        parameters={"scopes": [str(scope)]},
    )
    await audit.note(event)
    raise Denied(f"you need the right {scope}")


class Permitting:
    """Asks what somebody may see."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def condition(self, identity: Identity | None, column: Any) -> ColumnElement[bool]:
        """Returns what a query may ask of a column of names, so that little is read that `allowed` leaves out."""
        visible = await self._access.visible(identity)
        if (
            visible is None
            or sum(len(one.allowed) + len(one.denied) + len(one.despite) for one in visible) > MOST_GLOBS
        ):
            return true()
        return _permitted(column, visible)

    async def allowed(self, identity: Identity | None, names: Sequence[str]) -> set[str]:
        """Returns those repositories from which somebody may pull."""
        distinct = sorted(set(names))
        scopes = [Scope("repository", name, "pull") for name in distinct]
        verdicts = await self._access.verdicts(identity, scopes)
        return {name for name, allowed in zip(distinct, verdicts, strict=True) if allowed}


def _permitted(column: Any, visible: Sequence[Visible]) -> ColumnElement[bool]:
    fits = [
        or_(and_(true(), *(~_matches(column, glob) for glob in one.denied)), *_all(column, one.despite))
        for one in visible
    ]
    return and_(or_(false(), *(_matches(column, glob) for one in visible for glob in one.allowed)), *fits)


def _all(column: Any, globs: Sequence[str]) -> list[ColumnElement[bool]]:
    return [_matches(column, glob) for glob in globs]


def _matches(column: Any, glob: str) -> ColumnElement[bool]:
    """Returns whether a column matches a glob, by the range of an index where it can."""
    begin, star, rest = glob.partition("*")
    if not star:
        found: ColumnElement[bool] = column == glob
        return found
    # No character of a name is larger than z.
    within = and_(column >= begin, column < f"{begin}{{")
    if not rest:
        return within
    parts = (part.replace("!", "!!").replace("_", "!_").replace("%", "!%") for part in glob.split("*"))
    return and_(within, column.like("%".join(parts), escape="!"))
