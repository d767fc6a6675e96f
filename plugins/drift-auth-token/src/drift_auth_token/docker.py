"""The endpoints of the Docker token protocol: distribution, "Token Authentication Specification" and "OAuth2 token"."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from litestar import Request, Response, get, post
from msgspec import UNSET, Struct, UnsetType, structs

from drift_auth_token import asked, password
from drift_auth_token.body import FORM, Problem, Refusal, answer, answer_problem, first, read_body, read_fields
from drift_auth_token.service import TokenService
from drift_core.api import Access, Identity, Unauthorized

PATHS = ["/auth/token", "/oauth2/token"]
"""The second is where a client of the original asks."""

Fields = Mapping[str, Sequence[str]]


class Wanted(Struct):
    """The query of a wish; ``scope`` such as ``repository:team/app:pull,push``."""

    scope: list[str] = []
    service: str = ""
    client_id: str = ""
    offline_token: Literal["true", "false"] = "false"  # noqa: S105 - no secret


class WantedByForm(Struct):
    """The form of a wish; ``scope`` has several between spaces. Each grant type needs the fields of RFC 6749."""

    grant_type: Literal["password", "refresh_token"]
    scope: str = ""
    service: str = ""
    client_id: str = ""
    username: str = ""
    password: str = ""
    refresh_token: str = ""
    access_type: Literal["offline", "online"] = "online"


class Token(Struct, frozen=True):
    """A token in both of the names that clients look for, and what it is for; ``expires_in`` in seconds."""

    token: str
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    issued_at: str
    scope: str
    refresh_token: str | UnsetType = UNSET


class OAuthRefusal(Struct, frozen=True):
    """An error as of RFC 6749 section 5.2."""

    error: str
    error_description: str


class KeySet(Struct, frozen=True):
    """Public keys (RFC 7517 section 5)."""

    keys: list[dict[str, str]]


def docker_routes(service: TokenService, access: Access) -> Sequence[Any]:
    """Returns the routes; all are public, since a token is what their callers do not have yet."""

    @get(
        PATHS,
        public=True,
        exception_handlers={Problem: answer_problem},
        query=Wanted,
        answers=Token,
        errors=Refusal,
    )
    async def get_token(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers with a token for what the sender may do of what is asked for; bad credentials are a 401."""
        fields = read_fields(request.scope["query_string"])
        identity = await access.identify(request.auth)
        body = await _token(service, access, identity, fields)
        if identity is not None and first(fields, "offline_token") == "true":
            refresh = await service.offline(identity, first(fields, "client_id")[:255])
            body = body if refresh is None else structs.replace(body, refresh_token=refresh)
        return answer(body)

    @post(
        PATHS,
        public=True,
        status_code=200,
        exception_handlers={Problem: _answer_oauth},
        body={FORM: WantedByForm},
        answers=Token,
        errors=OAuthRefusal,
    )
    async def post_token(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers a form like `get_token`; errors have the form of RFC 6749 section 5.2."""
        fields = read_fields(await read_body(request))
        refresh, offline = first(fields, "refresh_token"), first(fields, "access_type") == "offline"
        identity: Identity
        try:
            match first(fields, "grant_type"):
                case "refresh_token":
                    identity = await service.redeem_offline(refresh)
                case "password":
                    username, secret = first(fields, "username"), first(fields, "password")
                    identity = await password.identify(access, request.auth, username, secret)
                    refresh = await service.offline(identity, first(fields, "client_id")[:255]) if offline else ""
                case _:
                    raise Problem(400, "unsupported_grant_type", "grant_type is password or refresh_token")
        except Unauthorized as error:
            raise Problem(400, "invalid_grant", error.message) from error
        body = await _token(service, access, identity, fields)
        return answer(structs.replace(body, refresh_token=refresh) if refresh else body)

    @get("/auth/keys", public=True)
    async def get_keys() -> KeySet:
        """Answers with the public keys, as a JWK set (RFC 7517 section 5)."""
        return KeySet(await service.published())

    return [get_token, post_token, get_keys]


async def _token(service: TokenService, access: Access, identity: Identity | None, fields: Fields) -> Token:
    try:
        wanted = asked.parse(fields.get("scope", ()))
    except asked.TooManyScopes:
        raise Problem(400, "invalid_scope", f"a token is for at most {asked.MAX_SCOPES} resources") from None
    got = await asked.granted(access, identity, wanted)
    issued = await service.access(identity, got)
    return Token(
        token=issued.token,
        access_token=issued.token,
        token_type="Bearer",  # noqa: S106 - names a kind of tokens
        expires_in=issued.seconds,
        issued_at=datetime.fromtimestamp(issued.at, UTC).isoformat().replace("+00:00", "Z"),
        scope=" ".join(map(str, got)),
    )


def _answer_oauth(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    error = "invalid_request" if problem.error.isupper() else problem.error
    return answer(OAuthRefusal(error, problem.message), problem.status)
