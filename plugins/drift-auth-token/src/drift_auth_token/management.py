"""Personal access tokens and robots over HTTP: below ``/api/tokens`` one's own, below ``/api/robots`` those of all."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post
from msgspec import Meta, Struct

from drift_auth_token.body import Problem, Refusal, answer, answer_problem, first, read_fields, read_json
from drift_auth_token.config import parse_scope
from drift_auth_token.grants import ROBOT, ROBOT_NAME, Grant, NameTaken, TooMany, begin, begin_robot, ends_in
from drift_auth_token.identity import gets_lasting
from drift_auth_token.service import TokenService
from drift_core.api import EVERYTHING, Access, Denied, Identity, Scope, Unauthorized

ROBOTS = Scope("registry", "robots", "*")
"""The right to make and remove robots."""

MAX_SCOPES = 200
PAGE = 100
"""Robots in one answer, unless another number is asked for."""


class NewToken(Struct, frozen=True, kw_only=True):
    """``expires_in_days`` None is as long as the configuration allows; ``scopes`` None is all that the owner may do."""

    name: str
    scopes: list[str] | None = None
    expires_in_days: float | None = None


class NewRobot(Struct, frozen=True, kw_only=True):
    """The body that makes one; without a time it lasts as long as ``max_token_days`` allows."""

    name: str
    scopes: list[str]
    description: str = ""
    groups: list[str] = []
    roles: list[str] = []
    expires_in_days: float | None = None


class Shown(Struct, frozen=True):
    """A token or robot without its secret, as `Grant.shown` has it; times in seconds since the epoch, None is never."""

    id: str
    name: str
    username: str
    description: str
    scopes: Sequence[str] | None
    roles: list[str]
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None


class Handed(Shown, frozen=True):
    """One that was just made: the only answer with its secret."""

    token: str


class OwnTokens(Struct, frozen=True):
    """The tokens of somebody."""

    tokens: list[Shown]


class RobotPage(Struct, frozen=True):
    """A page of robots, and the name behind which the next one begins; None where there is none."""

    robots: list[Shown]
    last: str | None


class RobotPaging(Struct):
    """The query of a page."""

    n: Annotated[int, Meta(ge=1, le=999)] = PAGE
    last: str = ""


def token_routes(service: TokenService, access: Access) -> Sequence[Any]:
    """Returns the routes of personal access tokens, which ask themselves who calls: no right is needed."""

    @get("/api/tokens", public=True, answers=OwnTokens, errors=Refusal)
    async def list_tokens(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers with one's own tokens, without the secrets, which nobody has."""
        tokens = await own_tokens(service, await _caller(access, request))
        return answer({"tokens": [grant.shown() for grant in tokens]})

    @post("/api/tokens", public=True, body=NewToken, answers=Handed, errors=Refusal)
    async def add_token(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Makes a token that may do no more than its maker, and shows it, once."""
        caller = await _caller(access, request)
        _person(service, caller)
        grant, token = await make_token(service, caller, await read_json(request, NewToken))
        return answer(grant.shown() | {"token": token}, 201)

    @delete("/api/tokens/{token:str}", public=True, status_code=204, errors=Refusal)
    async def revoke_token(request: Request[Any, Any, Any], token: str) -> None:
        """Revokes one's own token; an administrator revokes everybody's."""
        await revoke_own(service, access, await _caller(access, request), token)

    return [_group(list_tokens, add_token, revoke_token)]


def robot_routes(service: TokenService, access: Access) -> Sequence[Any]:
    """Returns the routes of robots, which need `ROBOTS`."""
    most = service.config.max_token_days

    @get("/api/robots", scope=ROBOTS, query=RobotPaging, answers=RobotPage, errors=Refusal)
    async def list_robots(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers with ``n`` robots by name, behind the name ``last``, and with the next ``last`` if there are more."""
        count, last = _page(read_fields(request.scope["query_string"]))
        robots = await service.grants.robots(last, count + 1)
        page = [grant.shown() for grant in robots[:count]]
        return answer({"robots": page, "last": page[-1]["name"] if len(robots) > len(page) else None})

    @post("/api/robots", scope=ROBOTS, body=NewRobot, answers=Handed, errors=Refusal)
    async def add_robot(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Makes a robot that may do no more than its maker, and shows its token, once."""
        body = await read_json(request, NewRobot)
        caller: Identity | None = request.user
        if caller is not None and not gets_lasting(caller):
            raise Denied("log in by a password: a credential that was handed out makes no robots")
        # A robot that was made by a token ends with it; one that a person made stays.
        maker = None if caller is None else service.person(caller) or caller
        scopes = _within(maker, body.scopes)
        if not await _may_give(access, maker, body):
            raise Denied("a robot cannot have roles or groups that its maker has not")
        identity = Identity(body.name, "token", frozenset(body.groups), frozenset(body.roles), scopes)
        expires = ends_in(_days(body.expires_in_days), most)
        made_by = "" if maker is None else maker.name
        try:
            grant = begin_robot(identity, title=body.description, expires=expires, maker=maker, created_by=made_by)
            token = await service.grant(grant, caller)
        except ValueError as error:
            raise Problem(400, "INVALID_REQUEST", str(error)) from None
        except NameTaken:
            raise Problem(409, "RESOURCE_ALREADY_EXISTS", f"there is a robot {body.name}") from None
        return answer(grant.shown() | {"token": token}, 201)

    @delete("/api/robots/{name:str}", scope=ROBOTS, status_code=204, errors=Refusal)
    async def revoke_robot(request: Request[Any, Any, Any], name: str) -> None:
        """Removes a robot."""
        found = await service.grants.listed("robot", f"{ROBOT}{name}") if ROBOT_NAME.fullmatch(name) else None
        if not found:
            raise Problem(404, "RESOURCE_NOT_FOUND", "there is no such robot")
        await service.grants.revoke(found[0], request.user)

    return [_group(list_robots, add_robot, revoke_robot)]


async def own_tokens(service: TokenService, caller: Identity) -> list[Grant]:
    """Returns somebody's personal access tokens. Raises `Denied` for who did not log in."""
    return await service.grants.listed("pat", _person(service, caller).name)


async def make_token(service: TokenService, caller: Identity, wanted: NewToken) -> tuple[Grant, str]:
    """Makes a personal access token that may do no more than its maker, and returns it; nothing shows it again.

    Raises `Denied` for who did not log in, or asks for more than he has, and `Problem`.
    """
    owner = _person(service, caller)
    scopes = owner.scopes if wanted.scopes is None else _within(owner, wanted.scopes)
    limited = msgspec.structs.replace(owner, scopes=scopes)
    expires = ends_in(_days(wanted.expires_in_days), service.config.max_token_days)
    grant = begin("pat", limited, title=_title(wanted.name), expires=expires)
    try:
        return grant, await service.grant(grant, caller)
    except TooMany:
        raise Problem(409, "QUOTA_EXCEEDED", "you have too many tokens: revoke some") from None


async def revoke_own(service: TokenService, access: Access, caller: Identity, token: str) -> None:
    """Revokes one's own token by its id; an administrator revokes everybody's. Raises `Denied`, `Problem`."""
    person = _person(service, caller)
    grant = await service.grants.find(token)
    foreign = grant is None or grant.kind != "pat" or grant.name != person.name
    if grant is None or (foreign and not all(await access.verdicts(person, [EVERYTHING]))):
        raise Problem(404, "RESOURCE_NOT_FOUND", "you have no such token")
    await service.grants.revoke(grant, person)


def _group(*handlers: Any) -> Router:
    answers: Mapping[Any, Any] = {Problem: answer_problem}
    return Router("/", route_handlers=handlers, exception_handlers=dict(answers))


async def _caller(access: Access, request: Request[Any, Any, Any]) -> Identity:
    identity = await access.admit(request.auth, ())
    if identity is None:
        raise Unauthorized
    return identity


def _person(service: TokenService, caller: Identity) -> Identity:
    """Returns who logged in. Raises `Denied` for what was handed out: a token that leaks must not make others."""
    person = service.person(caller)
    if person is None:
        raise Denied("log in by a password: a token or certificate neither shows nor makes tokens")
    return person


async def _may_give(access: Access, maker: Identity | None, body: NewRobot) -> bool:
    own = (maker.roles, maker.groups) if maker is not None else (frozenset[str](), frozenset[str]())
    if set(body.roles) <= own[0] and set(body.groups) <= own[1]:
        return True
    return all(await access.verdicts(maker, [EVERYTHING]))


def _within(owner: Identity | None, texts: Sequence[str]) -> frozenset[Scope]:
    """Returns scopes that a credential reaches. Raises `Denied` where it is limited to others, and `Problem`."""
    if len(texts) > MAX_SCOPES:
        raise Problem(400, "INVALID_REQUEST", f"a token has at most {MAX_SCOPES} scopes")
    try:
        scopes = frozenset(map(parse_scope, texts))
    except ValueError as error:
        raise Problem(400, "INVALID_REQUEST", str(error)) from None
    limits = None if owner is None else owner.scopes
    beyond = [scope for scope in scopes if limits is not None and not any(limit.covers(scope) for limit in limits)]
    if beyond:
        raise Denied("a token cannot reach further than what it is made with", scopes=sorted(map(str, beyond)))
    return scopes


def _page(fields: Mapping[str, Sequence[str]]) -> tuple[int, str]:
    count, last = first(fields, "n") or str(PAGE), first(fields, "last")
    if not re.fullmatch(r"[1-9][0-9]{0,2}", count):
        raise Problem(400, "INVALID_REQUEST", "n is a number from 1 to 999")
    if last and not ROBOT_NAME.fullmatch(last):
        raise Problem(400, "INVALID_REQUEST", "last is the name of a robot")
    return int(count), last


def _title(name: str) -> str:
    if not 0 < len(name) <= 255 or not name.isprintable():  # noqa: PLR2004
        raise Problem(400, "INVALID_REQUEST", "a token needs a name of at most 255 characters")
    return name


def _days(days: float | None) -> float | None:
    if days is not None and not 0 < days <= 36500:  # noqa: PLR2004
        raise Problem(400, "INVALID_REQUEST", "expires_in_days is a number of days, at most 36500")
    return days
