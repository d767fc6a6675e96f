"""The logins of Bolt clients, below ``/v1/auth``."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request, Response, Router, get, post
from msgspec import Struct

from drift_auth_token import password
from drift_auth_token.body import Problem, Refusal, answer, answer_error, answer_problem, read_json
from drift_auth_token.identity import TokenIdentity, scope_texts
from drift_auth_token.service import TokenService
from drift_auth_token.signed import Issued
from drift_core.api import EVERYTHING, Access, Identity, RegistryError, Unauthorized


class Login(Struct, frozen=True):
    """The body of a login."""

    username: str
    password: str


class Renewal(Struct, frozen=True):
    """The body that asks for new tokens."""

    refresh_token: str


class Caller(Struct, frozen=True):
    """Somebody, and what they may do at most."""

    username: str
    roles: list[str]
    scopes: Sequence[str]


class LoggedIn(Struct, frozen=True):
    """The tokens of a login; ``expires_in`` in seconds."""

    token: str
    user: Caller
    expires_in: int
    expires_at: str
    refresh_token: str


class LoggedOut(Struct, frozen=True):
    """That a login has ended."""

    message: str


def login_routes(service: TokenService, access: Access) -> Sequence[Any]:
    """Returns the routes; they are public, and ask themselves who calls, since errors have another form here."""

    @post("/login", public=True, status_code=200, body=Login, answers=LoggedIn, errors=Refusal)
    async def login(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers a name and a password with a token for all that their owner may do."""
        body = await read_json(request, Login)
        identity = await password.identify(access, request.auth, body.username, body.password)
        return _logged_in(*await service.login(identity))

    @post("/refresh", public=True, status_code=200, body=Renewal, answers=LoggedIn, errors=Refusal)
    async def refresh(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers a refresh token with new ones; it is good once."""
        return _logged_in(*await service.renew((await read_json(request, Renewal)).refresh_token))

    @post("/logout", public=True, status_code=200, answers=LoggedOut, errors=Refusal)
    async def logout(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Ends the login whose token is sent, on every worker within a second."""
        identity = await _caller(access, request)
        held = identity if isinstance(identity, TokenIdentity) and identity.use == "login" else None
        grant = None if held is None else await service.grants.find(held.grant)
        if grant is None:
            raise Problem(400, "INVALID_REQUEST", "these credentials are no login that could be ended")
        await service.grants.revoke(grant, identity, "Logout")
        return answer(LoggedOut("logged out"))

    @get("/whoami", public=True, answers=Caller, errors=Refusal)
    async def whoami(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers who the sender is."""
        return answer(_user(await _caller(access, request)))

    @post("/register", public=True, status_code=501, answers=Refusal, errors=Refusal)
    async def register() -> Response[bytes]:
        """Answers that users are not made here."""
        raise Problem(501, "NOT_IMPLEMENTED", "users are made by the operator of this registry")

    handlers: Mapping[Any, Any] = {Problem: answer_problem, RegistryError: answer_error}
    every = [login, refresh, logout, whoami, register]
    return [Router("/v1/auth", route_handlers=every, exception_handlers=dict(handlers))]


async def _caller(access: Access, request: Request[Any, Any, Any]) -> Identity:
    identity = await access.admit(request.auth, ())
    if identity is None:
        raise Unauthorized
    return identity


def _logged_in(identity: TokenIdentity, issued: Issued, refresh: str) -> Response[bytes]:
    ends = datetime.fromtimestamp(issued.at, UTC) + timedelta(seconds=issued.seconds)
    return answer(
        LoggedIn(
            token=issued.token,
            user=_user(identity),
            expires_in=issued.seconds,
            expires_at=ends.isoformat().replace("+00:00", "Z"),
            refresh_token=refresh,
        )
    )


def _user(identity: Identity) -> Caller:
    scopes = scope_texts(identity)
    return Caller(identity.name, sorted(identity.roles), [str(EVERYTHING)] if scopes is None else scopes)
