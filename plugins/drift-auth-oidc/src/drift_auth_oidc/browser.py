"""The routes of a browser: log in, log out, and who am I."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.datastructures import Cookie, State
from litestar.openapi import ResponseSpec
from msgspec import UNSET, Struct, UnsetType
from prometheus_client import Counter
from sqlalchemy import false

from drift_auth_oidc import pages
from drift_auth_oidc.authenticator import LoginAuthenticator, Session
from drift_auth_oidc.grants import Grants, Kind, described, of_id, of_kind, of_person
from drift_auth_oidc.logins import LOGIN_SECONDS, Logins
from drift_auth_oidc.provider import Provider
from drift_auth_oidc.site import CSRF_HEADER, LOGIN, SESSION, local_path
from drift_core.api import AuditEvent, Credentials, Identity, RegistryError, Services, Unauthorized, Unavailable

Asked = Request[Identity | None, Credentials, State]

HOME = "/auth/login"
"""Where a browser goes that was not on its way anywhere."""

FORM = "application/x-www-form-urlencoded"
PAGE = {"text/html": bytes}
"""What an answer for people is shown as."""

ELSEWHERE = ResponseSpec(None, generate_examples=False, description="To the page for a browser, whose form it was")


class Way(Struct):
    """The query of a login: a path of this server where the browser goes afterwards."""

    next: str | None = None


class Back(Struct):
    """The query with which a provider sends a browser back (RFC 6749 section 4.1.2)."""

    state: str | None = None
    code: str | None = None
    error: str | None = None


class Sent(Struct):
    """The form of a page that changes something; who sends none has the token in the header ``X-CSRF-Token``."""

    csrf_token: str


class Myself(Struct, frozen=True, kw_only=True):
    """Who asks; what only a provider tells is missing where another authenticator knows it."""

    id: str
    email: str | None
    name: str
    full_name: str | UnsetType | None = UNSET
    avatar_url: str | UnsetType | None = UNSET
    provider: str
    groups: tuple[str, ...] | UnsetType = UNSET
    roles: tuple[str, ...] | UnsetType = UNSET
    csrf_token: str | UnsetType = UNSET


class Named(Struct, frozen=True):
    """An organization, team or repository of a provider."""

    name: str


class Held(Struct, frozen=True):
    """A session or token, as `described` has it; ``current`` is the one that asks. Times in seconds since the epoch."""

    id: str
    kind: Kind
    name: str
    label: str
    created: float
    last_seen: float
    expires: float
    current: bool


class Revoked(Struct, frozen=True):
    """The ids of what was ended."""

    revoked: list[str]


class LoggedOut(Struct, frozen=True):
    """That a session has ended."""

    message: str


class Browser:
    """See `routes`. A login lives ``session_seconds``."""

    def __init__(
        self,
        logins: Logins,
        grants: Grants,
        authenticator: LoginAuthenticator,
        services: Services,
        counted: Counter,
        session_seconds: float,
    ) -> None:
        self._logins = logins
        self._grants = grants
        self._authenticator = authenticator
        self._site = authenticator.site
        self._services = services
        self._counted = counted
        self._seconds = session_seconds

    def routes(self) -> Sequence[Any]:
        """Returns the handlers, of each provider in both forms of paths."""
        handlers: list[Any] = []
        for name, provider in self._logins.providers.items():
            begin, finish = partial(self._begin, provider), partial(self._finish, provider)
            page: dict[str, Any] = {"status_code": 303, "errors": PAGE}
            handlers += [public(get, [f"/auth/{name}", f"/auth/login/{name}"], begin, query=Way, **page)]
            back = [f"/auth/{name}/callback", f"/auth/callback/{name}"]
            handlers += [public(get, back, finish, query=Back, **page)]
        handlers += [public(get, ["/auth/login"], self._choose, query=Way, answers=PAGE)]
        handlers += [public(get, ["/auth/user"], self._user, answers=Myself)]
        own = {"organizations": self._organizations, "teams": self._teams, "repositories": self._repositories}
        handlers += [public(get, [f"/auth/user/{name}"], listed, answers=list[Named]) for name, listed in own.items()]
        handlers += [public(get, ["/auth/tokens"], self._tokens, answers=list[Held])]
        unknown = ResponseSpec(Revoked, generate_examples=False, description="Nothing was ended")
        answers: dict[str, Any] = {"answers": Revoked, "responses": {404: unknown}}
        handlers += [public(delete, ["/auth/tokens/{identifier:str}"], self._revoke, **answers)]
        answers = {"body": {FORM: Sent}, "answers": LoggedOut, "responses": {303: ELSEWHERE}}
        handlers += [public(post, ["/auth/logout"], partial(self._logout, False), **answers)]
        handlers += [public(post, ["/auth/logout-everywhere"], partial(self._logout, True), **answers)]
        return handlers

    async def _choose(self, request: Asked) -> Response[Any]:
        """Shows who is logged in, or by which providers somebody can."""
        following = local_path(request.query_params.get("next"))
        session = await self.current(request.auth)
        if session is not None and following is None:
            return pages.account(session)
        return pages.choice(list(self._logins.providers), following)

    async def _begin(self, provider: Provider, request: Asked) -> Response[Any]:
        """Sends the browser to the provider."""
        following = local_path(request.query_params.get("next")) or HOME
        try:
            base = self._site.base(request.auth)
            url, cookie = await self._logins.begin(provider, base, following)
        except RegistryError as error:
            return _refused(error)
        return _redirect(url, self._site.set_cookie(LOGIN, cookie, LOGIN_SECONDS, request.auth))

    async def _finish(self, provider: Provider, request: Asked) -> Response[Any]:
        """Begins a session for whom the provider has sent back, in place of the one before."""
        credentials = request.auth
        try:
            cookie = self._site.cookie(LOGIN, credentials)
            known, following = await self._logins.finish(provider, request.query_params, cookie)
        except RegistryError as error:
            await self._note_failure(provider, error)
            return _refused(error)
        label = (credentials.header("user-agent") or "")[:255]
        before = self._site.cookie(SESSION, credentials)
        secret, _ = await self._grants.issue("session", known, self._seconds, label, replaces=before)
        self._counted.labels(provider.name, "accepted").inc()
        return _redirect(
            following,
            self._site.set_cookie(SESSION, secret, self._seconds, credentials),
            self._site.set_cookie(LOGIN, "", 0, credentials),
        )

    async def _note_failure(self, provider: Provider, error: RegistryError) -> None:
        self._counted.labels(provider.name, "failed" if isinstance(error, Unavailable) else "refused").inc()
        await self._services.audit.note(
            AuditEvent(
                type="AuthenticationFailed",
                severity="warning",
                success=False,
                reason=error.message,
                username=error.username if isinstance(error, Unauthorized) else None,
                parameters={"provider": provider.name},
            )
        )

    async def _logout(self, everywhere: bool, request: Asked) -> Response[Any]:
        """Ends the session, or all of the person's with their tokens; the page of `_choose` sends forms."""
        session, by_form = await self.changing(request)
        person = session.grant.person
        wanted = of_person(person) if everywhere else of_id(session.grant.id) & of_kind("session")
        await self._grants.revoke(wanted, "logout everywhere" if everywhere else "logout", person)
        gone = self._site.set_cookie(SESSION, "", 0, request.auth)
        if by_form:
            return _redirect(HOME, gone)
        return Response(LoggedOut("logged out"), status_code=200, cookies=[gone])

    async def current(self, credentials: Credentials) -> Session | None:
        """Returns the session of a browser, None where it has none that is good."""
        try:
            return await self._authenticator.session(credentials)
        except (Unauthorized, Unavailable):
            return None

    async def changing(self, request: Asked) -> tuple[Session, bool]:
        """Returns the session of a page that may change something, and whether it sent a form.

        Raises:
            Unauthorized: there is no session.
            Denied: the page is of another site.
        """
        session = await self._authenticator.session(request.auth)
        if session is None:
            raise Unauthorized("you are not logged in")
        self._site.check_origin(request.auth)
        shown = request.auth.header(CSRF_HEADER)
        by_form = shown is None
        if by_form:
            shown = (await request.form()).get("csrf_token")
        session.csrf.check(shown if isinstance(shown, str) else None)
        return session, by_form

    async def _user(self, request: Asked) -> Response[Any]:
        """Says who asks, also where another authenticator knows it."""
        if request.auth.authorization is None and (session := await self._authenticator.session(request.auth)):
            person = session.grant.person
            return private(
                Myself(
                    id=person.subject,
                    email=person.email,
                    name=person.name,
                    full_name=person.full_name,
                    avatar_url=person.avatar_url,
                    provider=person.provider,
                    groups=person.groups,
                    roles=person.roles,
                    csrf_token=session.csrf.token,
                )
            )
        identity = await self._identity(request)
        return private(Myself(id=identity.name, email=None, name=identity.name, provider=identity.source))

    async def _organizations(self, request: Asked) -> Response[Any]:
        """Lists the organizations that the provider says, which are groups without a slash."""
        groups = (await self._identity(request)).groups
        return private([Named(group) for group in sorted(groups) if "/" not in group.strip("/")])

    async def _teams(self, request: Asked) -> Response[Any]:
        """Lists the teams that the provider says, as ``organization/team``."""
        groups = (await self._identity(request)).groups
        return private([Named(group) for group in sorted(groups) if "/" in group.strip("/")])

    async def _repositories(self, request: Asked) -> Response[Any]:
        """Lists nothing: repositories are those of the catalogue, not of a provider."""
        await self._identity(request)
        return private([])

    async def _tokens(self, request: Asked) -> Response[Any]:
        """Lists the sessions and tokens of who asks."""
        session = await self._authenticator.session(request.auth)
        if session is None:
            raise Unauthorized("you are not logged in")
        found = await self._grants.listed(of_person(session.grant.person))
        return private([Held(**described(grant), current=grant.id == session.grant.id) for grant in found])

    async def _revoke(self, request: Asked) -> Response[Any]:
        """Ends one session or token of who asks."""
        session, _ = await self.changing(request)
        person, identifier = session.grant.person, str(request.path_params["identifier"])
        # PostgreSQL takes no text that has a zero byte in it.
        wanted = of_person(person) & of_id(identifier) if identifier.isalnum() else false()
        ended = await self._grants.revoke(wanted, "revoked", person)
        return private(Revoked([grant.id for grant in ended]), 200 if ended else 404)

    async def _identity(self, request: Asked) -> Identity:
        identity = await self._services.access.identify(request.auth)
        if identity is None:
            raise Unauthorized("you are not logged in")
        return identity


def public(
    kind: Any,
    paths: list[str],
    answer: Callable[[Asked], Awaitable[Response[Any]]],
    status_code: int = 200,
    **said: Any,
) -> Any:
    """Returns a handler that asks nobody, since it finds out itself who asks, or sends them to log in.

    ``said`` is what is shown of its body and answers; see `SupportsRoutes`.
    """
    text = inspect.getdoc(getattr(answer, "func", answer))

    @kind(paths, public=True, status_code=status_code, description=text, **said)
    async def handler(request: Asked) -> Response[Any]:
        return await answer(request)

    return handler


def private(content: Any, status: int = 200) -> Response[Any]:
    """Returns JSON that nobody may keep."""
    return Response(content, status_code=status, headers={"cache-control": "no-store"}, media_type="application/json")


def _redirect(url: str, *cookies: Cookie) -> Response[Any]:
    headers = {"location": url, "cache-control": "no-store"}
    return Response("", status_code=303, headers=headers, cookies=list(cookies), media_type="text/plain")


def _refused(error: RegistryError) -> Response[Any]:
    again = '<p><a class="button" href="/auth/login">Log in</a></p>'
    return pages.page("You are not logged in", pages.paragraph(error.message) + again, error.status)
