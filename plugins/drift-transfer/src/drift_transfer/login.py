"""Logs in to a registry as the Docker clients do: by password, or by a token that a password, or nobody, gets.

See the distribution project's "Token Authentication Specification", and RFC 7617.
"""

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import httpx
import msgspec

from drift_transfer.source import SourceError

CHALLENGE = re.compile(r"\s*(bearer|basic)\b\s*(.*)", re.IGNORECASE | re.DOTALL)


class Login:
    """What is sent as ``Authorization``, by the repository that it is for; "" is the catalogue."""

    def __init__(self, client: httpx.AsyncClient, username: str | None, password: str | None) -> None:
        self._client = client
        self._basic = None if username is None else httpx.BasicAuth(username, password or "")
        self._headers: dict[str, dict[str, str]] = {}

    def headers(self, name: str) -> dict[str, str]:
        """Returns what a request for a repository sends; nothing before the registry has asked for it."""
        return self._headers.get(name, {})

    async def answer(self, name: str, response: httpx.Response) -> None:
        """Does what the challenge of a response (RFC 9110 section 11.6.1) asks for. Raises `SourceError`."""
        for value in response.headers.get_list("www-authenticate"):
            found = CHALLENGE.fullmatch(value)
            if found is None:
                continue
            if found[1].lower() == "basic" and self._basic is not None:
                request = next(self._basic.auth_flow(httpx.Request("GET", response.url)))
                self._headers[name] = {"authorization": request.headers["authorization"]}
                return
            if found[1].lower() == "bearer":
                parameters = parse_keqv_list(parse_http_list(found[2]))
                self._headers[name] = {"authorization": f"Bearer {await self._token(parameters, response.url)}"}
                return
        raise SourceError("the registry refuses: who may read it has to log in by --username")

    async def _token(self, parameters: dict[str, str], asked: httpx.URL) -> str:
        realm = parameters.pop("realm", "")
        if urlsplit(realm).scheme not in ({"https"} if asked.scheme == "https" else {"http", "https"}):
            raise SourceError("the registry names no place that gives tokens without showing them to others")
        query = {name: parameters[name] for name in ("service", "scope") if name in parameters}
        try:
            response = await self._client.get(httpx.URL(realm).copy_merge_params(query), auth=self._basic)
            if response.status_code == HTTPStatus.OK:
                answer: Any = msgspec.json.decode(response.content)
                token = answer.get("token") or answer.get("access_token")
                if isinstance(token, str):
                    return token
        except (httpx.HTTPError, msgspec.DecodeError, AttributeError) as error:
            raise SourceError(f"no token can be had: {type(error).__name__}: {error}") from error
        raise SourceError(f"no token can be had: the answer is {response.status_code}")
