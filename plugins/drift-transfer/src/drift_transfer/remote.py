"""A source: a registry that serves, asked as any client asks it (distribution specification)."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from drift_core.api import Digest, DigestInvalid
from drift_transfer.documents import MANIFEST_TYPES, OCI_INDEX, Index
from drift_transfer.files import BLOCK
from drift_transfer.login import Login
from drift_transfer.source import Absent, Failure, Kind, SourceError

ATTEMPTS = 6
"""How often a request is sent, and how often in a row an answer may break off before the next byte."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before the second attempt, unless the registry says how long; each further one waits twice as long."""

PAGE = 1000
"""Names that are asked for at a time; registries may give fewer."""

MAX_LIST = 64 << 20
"""Most bytes of one page of names or referrers."""

HEADERS = {"accept-encoding": "identity"}
ACCEPT = {"accept": ", ".join(MANIFEST_TYPES)}

BUSY = frozenset({429, 500, 502, 503, 504})


class Remote:
    """See `Source` and `SupportsReferrers`. What is neither tagged nor reached from a tag nobody can list."""

    def __init__(self, client: httpx.AsyncClient, login: Login) -> None:
        self._client = client
        self._login = login
        self._answers_referrers = True

    async def repositories(self) -> AsyncIterator[str]:
        """See `Source`; they are what the catalogue lists."""
        async for page in self._pages("", f"/v2/_catalog?n={PAGE}"):
            for name in page.get("repositories") or ():
                yield str(name)

    async def tags(self, repository: str) -> AsyncIterator[tuple[str, Digest] | Failure]:
        """See `Source`."""
        async for page in self._pages(repository, f"/v2/{repository}/tags/list?n={PAGE}"):
            for tag in page.get("tags") or ():
                try:
                    yield str(tag), await self._resolve(repository, str(tag))
                except (SourceError, DigestInvalid) as error:
                    url = self._url(f"/v2/{repository}/manifests/{tag}")
                    yield Failure("tag", repository, str(tag), url, str(error))

    async def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Digest]:
        """See `SupportsReferrers`; a registry without them has an index under a tag, which is copied with the tags."""
        if not self._answers_referrers:
            return
        try:
            async for page in self._pages(repository, f"/v2/{repository}/referrers/{subject}"):
                for entry in msgspec.convert(page, Index).manifests:
                    yield Digest.parse(entry.digest)
        except Absent:
            self._answers_referrers = False
        except (msgspec.ValidationError, DigestInvalid) as error:
            raise SourceError(f"the registry answers with no list of referrers: {error}") from error

    async def manifest(self, repository: str, digest: Digest, limit: int) -> bytes:
        """See `Source`."""
        async with self._asked(repository, "GET", f"/v2/{repository}/manifests/{digest}", ACCEPT) as response:
            return await _bounded(response, limit)

    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """See `Source`; an answer that breaks off is asked for again from there on."""
        path, offset, left = f"/v2/{repository}/blobs/{digest}", 0, ATTEMPTS
        whole = False
        while not whole:
            part = {"range": f"bytes={offset}-"} if offset else {}
            try:
                async with self._asked(repository, "GET", path, part) as response:
                    # Who takes no notice of the range begins again.
                    known = offset if response.status_code == HTTPStatus.OK else 0
                    async for chunk in response.aiter_raw(BLOCK):
                        fresh = chunk[known:]
                        known -= len(chunk) - len(fresh)
                        if fresh:
                            yield fresh
                            offset, left = offset + len(fresh), ATTEMPTS
                whole = True
            except httpx.TransportError as error:
                left -= 1
                if not left:
                    raise SourceError(f"the answer breaks off: {type(error).__name__}: {error}") from error
                await asyncio.sleep(_delay(ATTEMPTS - left, None))

    def place(self, repository: str, kind: Kind, digest: Digest) -> str:
        """See `Source`."""
        return self._url(f"/v2/{repository}/{'blobs' if kind == 'blob' else 'manifests'}/{digest}")

    async def _resolve(self, repository: str, tag: str) -> Digest:
        path = f"/v2/{repository}/manifests/{tag}"
        async with self._asked(repository, "HEAD", path, ACCEPT) as response:
            stated = response.headers.get("docker-content-digest")
        if stated is not None:
            return Digest.parse(stated)
        async with self._asked(repository, "GET", path, ACCEPT) as response:
            return Digest.of(await _bounded(response, MAX_LIST))

    async def _pages(self, repository: str, path: str) -> AsyncIterator[dict[str, Any]]:
        following: str | None = path
        while following is not None:
            async with self._asked(
                repository, "GET", following, {"accept": f"application/json, {OCI_INDEX}"}
            ) as response:
                content = await _bounded(response, MAX_LIST)
                link = response.links.get("next", {}).get("url")
            try:
                yield msgspec.json.decode(content, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SourceError(f"{self._url(following)} answers with no JSON: {error}") from error
            # Only its path: wherever the link leads, the credentials are for this registry.
            parts = None if link is None else urlsplit(link)
            following = None if parts is None else f"{parts.path}?{parts.query}"

    @asynccontextmanager
    async def _asked(
        self, repository: str, method: str, path: str, headers: dict[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """Yields a good answer, whose body is not yet read. Raises `Absent`, `SourceError`."""
        response = await self._answered(repository, method, path, headers)
        try:
            yield response
        finally:
            await response.aclose()

    async def _answered(self, repository: str, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        refused, reason = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            sent = {**HEADERS, **headers, **self._login.headers(repository)}
            try:
                response = await self._client.send(
                    self._client.build_request(method, path, headers=sent), stream=True, follow_redirects=True
                )
            except httpx.HTTPError as error:
                reason, wait = f"{type(error).__name__}: {error}", None
            else:
                if response.status_code in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                    return response
                await response.aclose()
                reason, wait = f"the answer is {response.status_code}", response.headers.get("retry-after")
                if response.status_code == HTTPStatus.NOT_FOUND:
                    raise Absent("is not there")
                if response.status_code == HTTPStatus.UNAUTHORIZED and not refused:
                    # A token may have ended, so that each request may be refused once.
                    refused = True
                    await self._login.answer(repository, response)
                    continue
                if response.status_code not in BUSY:
                    break
            if attempt < ATTEMPTS:
                await asyncio.sleep(_delay(attempt, wait))
        raise SourceError(f"{method} {self._url(path)}: {reason}")

    def _url(self, path: str) -> str:
        return f"{str(self._client.base_url).rstrip('/')}{path}"


async def _bounded(response: httpx.Response, limit: int) -> bytes:
    """Returns the first ``limit`` bytes of an answer. Raises `SourceError` where it breaks off."""
    content = bytearray()
    try:
        async for chunk in response.aiter_raw(BLOCK):
            content += chunk
            if len(content) >= limit:
                break
    except httpx.HTTPError as error:
        raise SourceError(f"the answer breaks off: {type(error).__name__}: {error}") from error
    return bytes(content[:limit])


def _delay(attempt: int, wanted: str | None) -> float:
    """Returns for how many seconds to wait: what the registry wants (RFC 9110 section 10.2.3), or longer each time."""
    if wanted is not None and wanted.isdecimal():
        return min(float(wanted), LONGEST_DELAY)
    return min(FIRST_DELAY * 2 ** (attempt - 1), LONGEST_DELAY) * random.uniform(0.5, 1)  # noqa: S311 - no secret


@asynccontextmanager
async def open_remote(
    url: str, username: str | None, password: str | None, ca_file: str | None, connections: int
) -> AsyncIterator[Remote]:
    """Opens a registry by its URL. Raises `SourceError` where that is none."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise SourceError("a registry is named by its URL, such as https://registry.example.com, without credentials")
    verify = ssl.create_default_context(cafile=ca_file)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = httpx.Timeout(60.0, connect=10.0, pool=None)
    root = f"{parts.scheme}://{parts.netloc}"
    async with httpx.AsyncClient(base_url=root, verify=verify, limits=limits, timeout=timeout) as client:
        yield Remote(client, Login(client, username, password))
