"""Answers browsers: finds the page, asks who may see it and what they may do, shows it, and does what its forms ask."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from drift_core.api import (
    EVERYTHING,
    Access,
    Audit,
    AuditEvent,
    Console,
    Denied,
    Identity,
    RegistryError,
    Scope,
    Unauthorized,
    Unavailable,
    pages,
)
from drift_ui.asking import Browser, read_browser, read_form
from drift_ui.live import Follower, Live, MostLive, Stream
from drift_ui.permitting import check
from drift_ui.rendering import Frame, MenuEntry, Parts, Renderer
from drift_ui.replies import Reply, redirect, set_cookie
from drift_ui.routing import Found, Routes, filled, local_path
from drift_ui.sessions import COOKIE, Session, Sessions, check_token, csrf_token, is_mark_of, mark_of, new_secret

THEME = "drift-theme"
YEAR = 365 * 86400.0
STATIC = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
LONGEST_NOTICE = 500

NOT_FOUND, NOT_ALLOWED, UNFORESEEN = 404, 405, 500


class NotThere(RegistryError):
    """There is no such page, or no such act of it."""

    code, status, text = "UNSUPPORTED", 404, "there is no such page"


class Visit(Struct, frozen=True):
    """One request, by whom it is, and what the browser is told to keep. ``secret`` is that of its cookie."""

    browser: Browser
    session: Session | None
    secret: str
    fresh: bool
    open: bool

    @property
    def identity(self) -> Identity | None:
        """Who asks, None for nobody in particular."""
        return None if self.session is None else self.session.identity

    def cookie(self, seconds: float) -> Sequence[tuple[str, str]]:
        """Returns the header that makes the browser keep its secret, where it has to."""
        return (secret_cookie(self.browser, self.secret, seconds),) if self.fresh else ()


class Site:
    """The console, as an ASGI application."""

    def __init__(
        self,
        console: Console,
        own: Sequence[pages.Page],
        sessions: Sessions,
        access: Access,
        audit: Audit,
        registry_host: "HostOf",
        most_live: MostLive,
    ) -> None:
        self._console = console
        self._routes = Routes([*own, *console.pages])
        self._menu = _in_menu(own, console.pages)
        self._sessions = sessions
        self._access = access
        self._audit = audit
        self._host = registry_host
        self._renderer = Renderer()
        self._follows = most_live.any
        self._live = Live(sessions, self._renderer.live, console.failed, console.stopping, most_live)
        folder = files("drift_ui") / "static"
        self._static = {
            f"/static/{name}": Reply(200, (folder / name).read_bytes(), kind, kept=True)
            for name, kind in STATIC.items()
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        static = self._static.get(scope["path"])
        reply = await self._answer(scope, receive) if static is None else static
        await reply.send(scope["method"], send)

    async def _answer(self, scope: Any, receive: Any) -> Reply | Stream:
        try:
            browser = read_browser(scope, COOKIE, THEME)
        except RegistryError as error:
            return Reply(error.status, error.message.encode(), "text/plain; charset=utf-8")
        secret = browser.secret or new_secret()
        visit = Visit(browser, None, secret, browser.secret is None, open=False)
        try:
            visit = await self._known_by(visit)
            await self._console.visit(browser.credentials, visit.identity)
            if browser.method == "POST":
                return await self._changed(visit, await self._sent(visit, scope, receive))
            if browser.method != "GET":
                return await self._failed(visit, _NotAllowed())
            if browser.follows and scope["method"] == "GET":
                return await self._followed(visit, receive)
            return await self._shown(visit)
        except RegistryError as error:
            return await self._failed(visit, error)

    async def _known_by(self, visit: Visit) -> Visit:
        """Returns a visit with the session of its cookie, where that is still good."""
        # A page that is left open is no use of a session, or it would never end.
        session = None if visit.fresh else await self._sessions.find(visit.secret, used=not visit.browser.follows)
        if session is not None and not await self._console.stands(session.identity, visit.browser.credentials):
            await self._sessions.end(session.identity.name, session.id)
            await self._note("Logout", session.identity, "the account is gone or disabled, or its login has ended")
            session = None
        # Where nobody has to log in, nobody in particular may do everything.
        free = session is None and (await self._access.verdicts(None, [EVERYTHING]))[0]
        return msgspec.structs.replace(visit, session=session, open=free)

    async def _sent(self, visit: Visit, scope: Any, receive: Any) -> dict[str, str]:
        visit.browser.check_origin()
        form = await read_form(scope, receive)
        # Who brings no cookie has no form of ours.
        check_token(visit.secret, None if visit.fresh else form.get("csrf"))
        return form

    # Pages.

    async def _shown(self, visit: Visit) -> Reply:
        path = visit.browser.path
        if path == "/login":
            return await self._login_page(visit)
        if path == "/login/continue":
            return await self._continued(visit, visit.browser.query)
        found = self._routes.find(path)
        if found is None:
            raise NotThere
        if visit.identity is None and not visit.open:
            return self._to_login(visit)
        await self._check(visit, found.page.needs, found.parts)
        return await self._page(visit, found, notice=self._notice(visit))

    async def _page(
        self,
        visit: Visit,
        found: Found,
        *,
        notice: str = "",
        secret: str = "",
        failure: RegistryError | None = None,
        sent: Mapping[str, str] | None = None,
        answer: Sequence[pages.Block] = (),
    ) -> Reply:
        """Returns a page; one that fails says so in its place. ``answer`` is what an act has found, above it."""
        status = 200 if failure is None else failure.status
        error = "" if failure is None else failure.message
        parts = Parts()
        try:
            parts = await self._parts(visit, found, answer)
        except RegistryError as refused:
            status, error = refused.status, refused.message
            if isinstance(refused, Unavailable):
                self._console.failed(found.page, refused)
        except Exception as defect:  # noqa: BLE001 - whatever a plugin raises, the console goes on
            self._console.failed(found.page, defect)
            status, error = UNFORESEEN, "this page cannot be shown; the log of the server says why"
        frame = await self._frame(visit, _title(found), notice=notice, secret=secret, error=error)
        try:
            text = await asyncio.to_thread(self._renderer.page, frame, parts, sent or {})
        except Exception as defect:  # noqa: BLE001 - blocks of a plugin may be anything
            self._console.failed(found.page, defect)
            message = "this page cannot be shown; the log of the server says why"
            frame = msgspec.structs.replace(frame, error=message)
            status, text = UNFORESEEN, self._renderer.page(frame, Parts(), {})
        return self._html(visit, text, status)

    async def _parts(self, visit: Visit, found: Found, answer: Sequence[pages.Block]) -> Parts:
        asked = self._asked(visit, found, {})
        live = None if found.page.live is None else await found.page.live(asked)
        return Parts(answer, live, await found.page.show(asked), self._follows)

    async def _followed(self, visit: Visit, receive: Any) -> Stream:
        """Returns what tells a browser how a page changes."""
        found = self._routes.find(visit.browser.path)
        if found is None or found.page.live is None:
            raise NotThere
        if visit.identity is None and not visit.open:
            # Not the way to the login, to which no script can go.
            raise Unauthorized("you are not logged in any more")
        await self._check(visit, found.page.needs, found.parts)
        needed = _scope_of(found.page.needs, found.parts)
        credentials, identity = visit.browser.credentials, visit.identity

        async def may() -> bool:
            stands = identity is None or await self._console.stands(identity, credentials)
            return stands and (needed is None or (await self._access.verdicts(identity, [needed]))[0])

        session = None if visit.session is None else visit.session.id
        name = f"address {credentials.client_address}" if identity is None else f"identity {identity.name}"
        return self._live.follow(Follower(found.page, self._asked(visit, found, {}), session, name, may), receive)

    async def _failed(self, visit: Visit, error: RegistryError) -> Reply:
        titles = {NOT_FOUND: "Not found", 403: "Not allowed", 401: "Not logged in", 429: "Too many requests"}
        frame = await self._frame(visit, titles.get(error.status, "That did not work"), error=error.message)
        headers = [header for header in error.headers() if header[0].lower() != "www-authenticate"]
        return self._html(visit, self._renderer.page(frame, Parts(), {}), error.status, headers)

    # Acts.

    async def _changed(self, visit: Visit, form: dict[str, str]) -> Reply:
        path = visit.browser.path
        if path == "/theme":
            return self._themed(visit, form)
        if path == "/login":
            return await self._log_in(visit, form)
        if path == "/login/continue":
            return await self._continued(visit, form)
        if path == "/logout":
            return await self._log_out(visit)
        found = self._routes.find(path)
        act = None if found is None else found.page.acts.get(form.get("act", ""))
        if found is None or act is None:
            raise NotThere
        if visit.identity is None and not visit.open:
            return self._to_login(visit)
        await self._check(visit, found.page.needs, found.parts)
        await self._check(visit, act.needs, found.parts)
        return await self._done(visit, found, act, form)

    async def _done(self, visit: Visit, found: Found, act: pages.Act, form: dict[str, str]) -> Reply:
        try:
            question = await self._question(visit, found, form)
            if question is not None:
                frame = await self._frame(visit, _title(found))
                return self._html(visit, self._renderer.confirm(frame, question, form))
            done = await act.do(self._asked(visit, found, form))
        except RegistryError as error:
            return await self._page(visit, found, failure=error, sent=form)
        except Exception as defect:  # noqa: BLE001 - whatever a plugin raises, the console goes on
            self._console.failed(found.page, defect)
            unforeseen = Unavailable("that did not work; the log of the server says why")
            return await self._page(visit, found, failure=unforeseen, sent=form)
        then = local_path(done.then) or filled(found.page.path, found.parts)
        if done.secret or done.found:
            # It is in no address and in no database, so that it can be shown this once only.
            return await self._page(visit, found, notice=done.message, secret=done.secret, answer=done.found)
        notice = done.message[:LONGEST_NOTICE]
        query = urlencode({"notice": notice, "mark": mark_of(visit.secret, notice)})
        return redirect(f"{then}{'&' if '?' in then else '?'}{query}")

    async def _question(self, visit: Visit, found: Found, form: Mapping[str, str]) -> pages.Form | None:
        """Returns the form that was sent where it has to be asked twice, and was asked once."""
        if form.get("confirmed"):
            return None
        # A page that cannot be shown now cannot tell: nothing is done then.
        blocks = await found.page.show(self._asked(visit, found, {}))
        forms = [block for block in blocks if isinstance(block, pages.Form)]
        return next((one for one in forms if one.act == form["act"] and one.danger), None)

    # Logins.

    async def _login_page(self, visit: Visit, *, name: str = "", failure: RegistryError | None = None) -> Reply:
        following = local_path(visit.browser.query.get("next")) or "/"
        if visit.identity is not None or visit.open:
            return redirect(following)
        error = "" if failure is None else failure.message
        frame = await self._frame(visit, "Log in", error=error)
        known = await self._known(visit)
        shown = None if known is None else known.name
        text = self._renderer.login(frame, self._console.logins, name, following, shown)
        return self._html(visit, text, 200 if failure is None else failure.status)

    async def _log_in(self, visit: Visit, form: Mapping[str, str]) -> Reply:
        name = form.get("username", "")
        try:
            await self._console.attempt(visit.browser.credentials)
            identity = await self._by_password(visit, name, form.get("password", ""))
            return await self._begin(visit, identity, form)
        except RegistryError as error:
            return await self._login_page(visit, name=name[:255], failure=error)

    async def _by_password(self, visit: Visit, name: str, password: str) -> Identity:
        # The name ends at the first colon (RFC 7617 section 2): with one in it, it would be that of another.
        if not name or ":" in name:
            raise Unauthorized("the name or the password is wrong", username=name[:255])
        value = f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"
        # A certificate or a cookie of the same request would prove its sender, whatever the password.
        headers = [header for header in visit.browser.credentials.headers if header[0] == "user-agent"]
        asked = msgspec.structs.replace(
            visit.browser.credentials,
            authorization=value,
            headers=[*headers, ("authorization", value)],
            certificate=None,
        )
        identity = await self._access.identify(asked)
        if identity is None:
            raise Unauthorized("the name or the password is wrong", username=name[:255])
        return identity

    async def _known(self, visit: Visit) -> Identity | None:
        """Returns who the browser is already by another way, such as a login elsewhere; None for nobody."""
        asked = msgspec.structs.replace(visit.browser.credentials, method="GET", authorization=None, certificate=None)
        headers = [header for header in asked.headers if header[0] != "authorization"]
        try:
            identity = await self._access.identify(msgspec.structs.replace(asked, headers=headers))
        except (Unauthorized, Denied):
            return None
        return None if identity is None or identity.delegated else identity

    async def _continued(self, visit: Visit, sent: Mapping[str, str]) -> Reply:
        """Begins a session for whom another way of logging in knows, which has sent the browser here."""
        await self._console.attempt(visit.browser.credentials)
        identity = await self._known(visit)
        if identity is None:
            return self._to_login(visit)
        return await self._begin(visit, identity, sent)

    async def _begin(self, visit: Visit, identity: Identity, sent: Mapping[str, str]) -> Reply:
        secret = await self._sessions.begin(identity, visit.browser.credentials)
        if visit.session is not None:
            await self._sessions.end(visit.session.identity.name, visit.session.id)
        await self._note("Login", identity)
        # A new secret: who knew that of the visitor must not know that of the session.
        cookie = secret_cookie(visit.browser, secret, self._sessions.seconds)
        return redirect(local_path(sent.get("next")) or "/", cookie)

    async def _log_out(self, visit: Visit) -> Reply:
        # First: what cannot be ended now leaves whoever asks where they are, and they can try again.
        gone = await self._console.log_out(visit.browser.credentials)
        if visit.session is not None:
            await self._sessions.end(visit.session.identity.name, visit.session.id)
            await self._note("Logout", visit.session.identity)
        return redirect("/login", secret_cookie(visit.browser, "", 0), *gone)

    async def _note(self, kind: Literal["Login", "Logout"], identity: Identity, reason: str | None = None) -> None:
        event = AuditEvent(type=kind, identity=identity, reason=reason, resource_type="Session", resource_id="console")
        await self._audit.note(event)

    def _to_login(self, visit: Visit) -> Reply:
        following = _here(visit.browser) if visit.browser.method == "GET" else "/"
        return redirect(f"/login?{urlencode({'next': following})}", *visit.cookie(self._sessions.seconds))

    def _themed(self, visit: Visit, form: Mapping[str, str]) -> Reply:
        wanted = form.get("theme", "")
        if wanted == "toggle":
            wanted = "light" if visit.browser.theme == "dark" else "dark"
        kept = wanted if wanted in ("light", "dark") else ""
        cookie = set_cookie(THEME, kept, YEAR if kept else 0, secure=visit.browser.secure)
        return redirect(local_path(form.get("next")) or "/", cookie)

    # What all of them need.

    async def _check(self, visit: Visit, needs: pages.Needed, parts: Mapping[str, str]) -> None:
        """Raises `Denied` where who asks may not."""
        scope = _scope_of(needs, parts)
        if scope is not None:
            await check(self._access, self._audit, visit.identity, scope)

    def _asked(self, visit: Visit, found: Found, form: Mapping[str, str]) -> pages.Asked:
        return pages.Asked(visit.identity, found.parts, visit.browser.query, form, self._host(visit.browser.host))

    async def _frame(self, visit: Visit, title: str, *, notice: str = "", secret: str = "", error: str = "") -> Frame:
        known = visit.identity is not None or visit.open
        return Frame(
            title=title,
            menu=await self._entries(visit) if known else (),
            user=None if visit.identity is None else visit.identity.name,
            open=visit.open,
            theme=visit.browser.theme,
            token=csrf_token(visit.secret),
            path=visit.browser.path,
            here=_here(visit.browser),
            notice=notice,
            secret=secret,
            error=error,
        )

    async def _entries(self, visit: Visit) -> Sequence[MenuEntry]:
        # None of them depends on a part of a path.
        needed = [_scope_of(page.needs, {}) for page in self._menu]
        asked = sorted({scope for scope in needed if scope is not None})
        allowed = dict(zip(asked, await self._access.verdicts(visit.identity, asked), strict=True)) if asked else {}
        shown = [page for page, scope in zip(self._menu, needed, strict=True) if scope is None or allowed[scope]]
        path = visit.browser.path
        return [MenuEntry(str(page.menu), page.path, _is_within(path, page.path)) for page in shown]

    def _notice(self, visit: Visit) -> str:
        notice, mark = visit.browser.query.get("notice", ""), visit.browser.query.get("mark", "")
        # A text that somebody else has put into a link would look like ours.
        return notice if notice and is_mark_of(visit.secret, notice, mark) else ""

    def _html(self, visit: Visit, text: str, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Reply:
        return Reply(status, text.encode(), headers=(*headers, *visit.cookie(self._sessions.seconds)))


class HostOf:
    """Says under which host clients reach the registry, by that of the console."""

    def __init__(self, bind_addr: str, chosen: str | None) -> None:
        self._port = bind_addr.rpartition(":")[2]
        self._chosen = chosen

    def __call__(self, host: str) -> str:
        """Returns host and port."""
        if self._chosen is not None:
            return self._chosen
        name = host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]
        return f"{name}:{self._port}"


class _NotAllowed(RegistryError):
    code, status, text = "UNSUPPORTED", NOT_ALLOWED, "the console answers GET and POST"


def secret_cookie(browser: Browser, secret: str, seconds: float) -> tuple[str, str]:
    """Returns the header that makes a browser keep a secret, or with 0 seconds forget it."""
    name = f"__Host-{COOKIE}" if browser.secure else COOKIE
    return set_cookie(name, secret, seconds, secure=browser.secure)


def _in_menu(own: Sequence[pages.Page], others: Sequence[pages.Page]) -> Sequence[pages.Page]:
    named = [page for page in others if page.menu is not None and "{" not in page.path]
    return [*(page for page in own if page.menu is not None), *sorted(named, key=lambda page: str(page.menu).lower())]


def _scope_of(needs: pages.Needed, parts: Mapping[str, str]) -> Scope | None:
    return needs(parts) if callable(needs) else needs


def _is_within(path: str, menu: str) -> bool:
    return path == menu or (menu != "/" and path.startswith(f"{menu}/"))


def _title(found: Found) -> str:
    """Returns the title of a page, and of which thing it is."""
    parts = " ".join(found.parts.values())
    return f"{found.page.title}: {parts}" if parts else found.page.title


def _here(browser: Browser) -> str:
    query = {name: value for name, value in browser.query.items() if name not in ("notice", "mark")}
    return browser.path + (f"?{urlencode(query)}" if query else "")
