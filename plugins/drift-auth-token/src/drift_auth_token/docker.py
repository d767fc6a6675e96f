"""The endpoints of the Docker token protocol: distribution, "Token Authentication Specification" and "OAuth2 token"."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post

from drift_auth_token import asked, password
from drift_auth_token.body import Problem, answer, answer_problem, first, read_body, read_fields
from drift_auth_token.service import TokenService
from drift_core.api import Access, Identity, Unauthorized

PATHS = ["/auth/token", "/oauth2/token"]
"""The second is where a client of the original asks."""

Fields = Mapping[str, Sequence[str]]


def docker_routes(service: TokenService, access: Access) -> Sequence[Any]:
    """Returns the routes; all are public, since a token is what their callers do not have yet."""

    @get(PATHS, public=True, exception_handlers={Problem: answer_problem})
    async def get_token(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers with a token for what the sender may do of what is asked for; bad credentials are a 401."""
        fields = read_fields(request.scope["query_string"])
        identity = await access.identify(request.auth)
        body = await _token(service, access, identity, fields)
        if identity is not None and first(fields, "offline_token") == "true":
            refresh = await service.offline(identity, first(fields, "client_id")[:255])
            body |= {} if refresh is None else {"refresh_token": refresh}
        return answer(body)

    @post(PATHS, public=True, exception_handlers={Problem: _answer_oauth})
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
        return answer(body | ({"refresh_token": refresh} if refresh else {}))

    @get("/auth/keys", public=True)
    async def get_keys() -> dict[str, list[dict[str, str]]]:
        """Answers with the public keys, as a JWK set (RFC 7517 section 5)."""
        return {"keys": await service.published()}

    return [get_token, post_token, get_keys]


async def _token(service: TokenService, access: Access, identity: Identity | None, fields: Fields) -> dict[str, Any]:
    try:
        wanted = asked.parse(fields.get("scope", ()))
    except asked.TooManyScopes:
        raise Problem(400, "invalid_scope", f"a token is for at most {asked.MAX_SCOPES} resources") from None
    got = await asked.granted(access, identity, wanted)
    issued = await service.access(identity, got)
    return {
        "token": issued.token,
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.seconds,
        "issued_at": datetime.fromtimestamp(issued.at, UTC).isoformat().replace("+00:00", "Z"),
        "scope": " ".join(map(str, got)),
    }


def _answer_oauth(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    error = "invalid_request" if problem.error.isupper() else problem.error
    return answer({"error": error, "error_description": problem.message}, problem.status)
