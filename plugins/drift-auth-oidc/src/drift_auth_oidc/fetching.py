"""Asks providers: what is too slow, too large, or elsewhere is an error."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from drift_core.api import Unavailable

SECONDS = 10.0
"""Until an answer has to be there, whole."""

LARGEST = 1 << 20
"""Most bytes of an answer."""

USER_AGENT = "drift-auth-oidc"


class RefusedError(Unavailable):
    """The provider answers, but not this question; others it may answer."""


class Answer(Struct, frozen=True):
    """What a provider said: a status below 500, JSON, and headers by their lower-case names."""

    status: int
    document: Any
    headers: Mapping[str, str]


class Fetcher:
    """Asks by HTTP; redirects are not followed, whoever they lead to."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, url: str, *, headers: Mapping[str, str] | None = None, form: str | None = None) -> Answer:
        """Returns the answer to a GET, or to a POST of ``form``, which is encoded already.

        Raises:
            RefusedError: the answer is too long, or no JSON.
            Unavailable: there is none, or a status from 500.
        """
        where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        sent = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            **(headers or {}),
        }
        if form is not None:
            sent["content-type"] = "application/x-www-form-urlencoded"
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._client.stream("GET" if form is None else "POST", url, headers=sent, content=form) as answer,
            ):
                body = await _limited(answer)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"the login provider {where} cannot be reached", reason=reason) from error
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"the login provider {where} gave no usable answer", status=answer.status_code)
        if body is None:
            raise RefusedError(f"the login provider {where} gave no usable answer", status=answer.status_code)
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise RefusedError(
                f"the login provider {where} did not answer with JSON", status=answer.status_code
            ) from None
        return Answer(answer.status_code, document, dict(answer.headers.items()))

    async def document(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """Returns the JSON of a GET that is answered with 200. Raises `Unavailable`."""
        answer = await self.ask(url, headers=headers)
        if answer.status != HTTPStatus.OK:
            where = urlsplit(url).netloc
            raise Unavailable(f"the login provider {where} gave no usable answer", status=answer.status)
        return answer.document


async def _limited(answer: httpx.Response) -> bytes | None:
    """Returns the body, or None where it is longer than `LARGEST`, or packed so that it could be."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        return None
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > LARGEST:
            return None
    return bytes(body)


@asynccontextmanager
async def open_fetcher() -> AsyncGenerator[Fetcher]:
    """Opens a fetcher; proxies and authorities are those of the environment (HTTPS_PROXY, SSL_CERT_FILE)."""
    async with httpx.AsyncClient(follow_redirects=False, timeout=SECONDS) as client:
        yield Fetcher(client)
