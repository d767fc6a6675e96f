"""The page of the console, asked directly: everybody's own tokens, made by who logged in, shown once, and revoked."""

from typing import Any

import msgspec
import pytest
from drift_auth_token import grants
from drift_auth_token.authenticator import TokenAuthenticator
from drift_auth_token.identity import TokenIdentity
from drift_auth_token.pages import Refused

from drift_core.api import CATALOG, Denied, Identity, Scope, SupportsPages, Unauthorized, pages

from .conftest import Opening, bearer

ANN = Identity("ann", "basic")


def asked(identity: Identity | None = ANN, **form: str) -> pages.Asked:
    return pages.Asked(identity, {}, {}, form, "registry.example")


def page_of(authenticator: TokenAuthenticator) -> pages.Page:
    assert isinstance(authenticator, SupportsPages)
    (page,) = authenticator.pages()
    return page


async def listed(page: pages.Page, identity: Identity = ANN) -> list[Any]:
    table, *_ = await page.show(asked(identity))
    assert isinstance(table, pages.Table)
    return list(table.rows)


async def test_a_token_is_made_shown_once_and_revoked(opened: TokenAuthenticator) -> None:
    page = page_of(opened)
    table, form = await page.show(asked())
    assert isinstance(table, pages.Table)
    assert isinstance(form, pages.Form)
    assert (table.rows, form.act) == ([], "create"), "there is nothing to revoke"
    done = await page.acts["create"].do(asked(name=" ci ", scopes="repository:team/*:pull", expires_in_days="1"))
    assert done.secret.startswith("drift_pat_")
    identity = await opened.authenticate(bearer(done.secret))
    assert identity is not None
    assert (identity.name, identity.scopes) == ("ann", frozenset({Scope("repository", "team/*", "pull")}))
    blocks = await page.show(asked())
    assert done.secret not in msgspec.json.encode(blocks).decode(), "it is shown once"
    (row,) = await listed(page)
    token, name, scopes, _, ends, used = row
    assert isinstance(token, pages.Copied)
    assert (name, scopes, used) == ("ci", "repository:team/*:pull", None)
    assert isinstance(ends, pages.Moment)
    assert await listed(page, Identity("bob", "basic")) == [], "each sees his own"
    with pytest.raises(Refused, match="no such token"):
        await page.acts["revoke"].do(asked(Identity("bob", "basic", scopes=frozenset()), token="x" * 20))
    await page.acts["revoke"].do(asked(token=token.text))
    assert await listed(page) == []
    assert await opened.service.grants.find(token.text) is None


async def test_without_limits_it_may_what_its_owner_may(opening: Opening) -> None:
    async with opening(max_token_days=None) as opened:
        page = page_of(opened)
        await page.acts["create"].do(asked(name="all"))
        ((_, name, scopes, _, ends, _),) = await listed(page)
        assert (name, scopes, ends) == ("all", "all of yours", "never")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"name": "x" * 256},
        {"name": "a", "scopes": "everything"},
        {"name": "a", "expires_in_days": "soon"},
        {"name": "a", "expires_in_days": "0"},
        {"name": "a", "expires_in_days": "nan"},
    ],
)
async def test_what_is_no_token(opened: TokenAuthenticator, form: dict[str, str]) -> None:
    page = page_of(opened)
    with pytest.raises(Refused):
        await page.acts["create"].do(asked(**form))
    assert await listed(page) == []


async def test_there_is_an_end_to_them(opened: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "MAX_OF_ONE", 1)
    create = page_of(opened).acts["create"]
    await create.do(asked(name="first"))
    with pytest.raises(Refused, match="too many"):
        await create.do(asked(name="second"))


async def test_who_did_not_log_in_is_refused(opened: TokenAuthenticator) -> None:
    """Neither nobody, nor who came by a token: one that leaks must not make others."""
    page = page_of(opened)
    by_token = TokenIdentity("ann", "token", delegated=True, use="pat", grant="x")
    limited = Identity("ann", "basic", scopes=frozenset({Scope("repository", "team/*", "pull")}))
    for work in (page.show, page.acts["create"].do, page.acts["revoke"].do):
        with pytest.raises(Unauthorized):
            await work(asked(None, name="a"))
        with pytest.raises(Denied):
            await work(asked(by_token, name="a"))
    with pytest.raises(Denied, match="further"):
        await page.acts["create"].do(asked(limited, name="a", scopes="repository:other:pull"))


async def test_everybody_who_is_known_may(opened: TokenAuthenticator) -> None:
    """The routes need no right, and ask themselves who calls; a page has to need one, which everybody has."""
    page = page_of(opened)
    public = [
        handler.opt.get("public")
        for router in opened.routes()
        for route in getattr(router, "routes", ())
        if route.path.startswith("/api/tokens")
        for handler in route.route_handlers
        if "OPTIONS" not in handler.http_methods
    ]
    assert public == [True, True, True]
    assert {page.needs, *(act.needs for act in page.acts.values())} == {CATALOG}
