"""The code flow of OAuth 2.0 (RFC 6749 section 4.1) with PKCE (RFC 7636), its messages made by authlib."""

# authlib has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from msgspec import Struct

from drift_auth_oidc.fetching import Fetcher
from drift_core.api import Secret, Unauthorized, Unavailable


class Client(Struct, frozen=True):
    """Drift, as a provider knows it."""

    client_id: str
    client_secret: Secret | None
    scopes: tuple[str, ...]


class Attempt(Struct, frozen=True, kw_only=True):
    """One login that has begun in one browser, and may come back once.

    ``next_path`` is where the browser goes afterwards. ``verifier`` proves to the provider who began it.
    """

    provider: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    next_path: str


def authorization_url(endpoint: str, client: Client, attempt: Attempt, **more: str) -> str:
    """Returns where the browser has to go to log in."""
    url = prepare_grant_uri(
        endpoint,
        client.client_id,
        "code",
        redirect_uri=attempt.redirect_uri,
        scope=" ".join(client.scopes),
        state=attempt.state,
        code_challenge=create_s256_code_challenge(attempt.verifier),
        code_challenge_method="S256",
        **more,
    )
    return str(url)


async def exchange(
    fetcher: Fetcher, endpoint: str, client: Client, attempt: Attempt, code: str, methods: Collection[str]
) -> dict[str, Any]:
    """Returns what the provider gives for a code.

    ``methods`` are the ways to prove who asks that it takes (RFC 8414, token_endpoint_auth_methods_supported).

    Raises:
        Unauthorized: it refuses the code.
        Unavailable: it does not answer, or not as it should.
    """
    body: str = prepare_token_request(
        "authorization_code", redirect_uri=attempt.redirect_uri, code=code, code_verifier=attempt.verifier
    )
    basic = "client_secret_basic" in methods or "client_secret_post" not in methods
    method = "none" if client.client_secret is None else "client_secret_basic" if basic else "client_secret_post"
    proof = ClientAuth(client.client_id, client.client_secret, method)
    headers: dict[str, str]
    _, headers, body = proof.prepare("POST", endpoint, {}, body)
    answer = await fetcher.ask(endpoint, headers=headers, form=body)
    given: Any = answer.document
    if not isinstance(given, dict):
        raise Unavailable("the login provider did not answer as OAuth 2.0 says", status=answer.status)
    # GitHub says with 200 that it refuses.
    if answer.status != HTTPStatus.OK or "error" in given or not isinstance(given.get("access_token"), str):
        raise Unauthorized("the login provider refused the code", reason=str(given.get("error", ""))[:100])
    return given
