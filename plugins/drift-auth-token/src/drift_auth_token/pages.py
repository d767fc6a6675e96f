"""The page of the console on which everybody makes and revokes personal access tokens of his own."""

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from drift_auth_token.body import Problem
from drift_auth_token.grants import Grant
from drift_auth_token.identity import scope_texts
from drift_auth_token.management import NewToken, make_token, own_tokens, revoke_own
from drift_core.api import CATALOG, Access, Identity, RegistryError, Unauthorized, pages

if TYPE_CHECKING:
    from drift_auth_token.service import TokenService

T = TypeVar("T")

KNOWN: Final = CATALOG
"""What everybody may who is known: the routes need no right, and ask themselves who calls."""


class Refused(RegistryError):
    """What a route answers as a `Problem`, for who looks at a page."""

    code: ClassVar[str] = "INVALID_REQUEST"
    status: ClassVar[int] = 400
    text: ClassVar[str] = "this token cannot be made or revoked"


def pages_over(service: "TokenService", access: Access) -> Sequence[pages.Page]:
    """Returns the page."""

    async def show(asked: pages.Asked) -> Sequence[pages.Block]:
        tokens = await own_tokens(service, _caller(asked))
        most = service.config.max_token_days
        hint = "for ever unless a number is given" if most is None else f"at most {most:g}, which is what it gets"
        new = (
            pages.Field("name", "Name", hint="what it is for", required=True),
            pages.Field("scopes", "Rights", hint="such as repository:team/*:pull, with spaces between; all of yours"),
            pages.Field("expires_in_days", "Days", hint=hint),
        )
        columns = ("Id", "Name", "Rights", "Made", "Ends", "Last used")
        blocks: list[pages.Block] = [
            pages.Table("Your access tokens", columns, list(map(_row, tokens)), "You have none."),
            pages.Form("Make a token", "Make", new, "create"),
        ]
        if tokens:
            which = pages.Field("token", "Token", "choice", choices=[token.id for token in tokens], required=True)
            blocks.append(pages.Form("Revoke a token", "Revoke", (which,), "revoke", danger=True))
        return blocks

    async def create(asked: pages.Asked) -> pages.Done:
        form = asked.form
        wanted = NewToken(
            name=form.get("name", "").strip(),
            scopes=form.get("scopes", "").split() or None,
            expires_in_days=_days(form.get("expires_in_days", "").strip()),
        )
        grant, token = await _told(make_token(service, _caller(asked), wanted))
        return pages.Done(f"The token {grant.title} is made. It is shown now, and never again.", token)

    async def revoke(asked: pages.Asked) -> pages.Done:
        await _told(revoke_own(service, access, _caller(asked), asked.form.get("token", "")))
        return pages.Done("The token is revoked; within a second nobody gets in by it.")

    acts = {"create": pages.Act(create, KNOWN), "revoke": pages.Act(revoke, KNOWN)}
    return [pages.Page("/tokens", "Access tokens", show, "Access tokens", KNOWN, acts)]


def _caller(asked: pages.Asked) -> Identity:
    if asked.identity is None:
        raise Unauthorized
    return asked.identity


async def _told(work: Awaitable[T]) -> T:
    try:
        return await work
    except Problem as problem:
        raise Refused(problem.message) from None


def _days(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise Refused("expires_in_days is a number of days") from None


def _row(grant: Grant) -> Sequence[pages.Cell]:
    scopes = scope_texts(grant)
    return (
        pages.Copied(grant.id),
        grant.title,
        "all of yours" if scopes is None else ", ".join(scopes),
        pages.Moment(grant.created),
        "never" if grant.expires is None else pages.Moment(grant.expires),
        None if grant.used is None else pages.Moment(grant.used),
    )
