"""Mirrors the profiles of another Drift, which are checked before they are believed.

Only the registry of the configuration is asked: redirects are not followed, and no URL in an answer is. What is
mirrored keeps its author and its version; a profile that was published here is never replaced.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx
from sqlalchemy import Connection, select
from structlog.typing import FilteringBoundLogger

from drift_bolt.binary_data import decoded
from drift_bolt.config import BoltConfig
from drift_bolt.model import ProfileDetail, ProfileListResponse, ProfileSummary, ProfileUpload, ProfileUploadMetadata
from drift_bolt.problems import Invalid
from drift_bolt.profile_toml import from_toml
from drift_bolt.publishing import Publisher
from drift_bolt.tables import entries, versions
from drift_bolt.validation import VERSION, check_name, check_profile, check_profile_metadata
from drift_core.api import Digest, LocalRegistry, Records, RegistryError, Unavailable

LARGEST: Final = 4 << 20
"""Most bytes of an answer."""

SECONDS: Final = 30.0
"""Until an answer has to be there, whole."""

PER_PAGE: Final = 100
MOST_PAGES: Final = 10_000


class Mirror:
    """One run looks at every profile of the other registry, and fetches those that are new."""

    def __init__(self, config: BoltConfig, records: Records, publisher: Publisher, log: FilteringBoundLogger) -> None:
        assert config.registry_url is not None  # noqa: S101 - the configuration says so
        self._url = config.registry_url.rstrip("/")
        self._token = config.registry_token
        self._limits = config.enable_profile_validation
        self._records = records
        self._publisher = publisher
        self._log = log

    async def run(self, registry: LocalRegistry) -> int:
        """Returns how many profiles were fetched. Raises `Unavailable` where the other registry does not answer.

        A profile that is not what the other registry says is logged, and left out.
        """
        fetched = 0
        async with self._client() as client:
            async for summary in self._profiles(client):
                try:
                    if await self._is_wanted(summary):
                        await self._fetch(client, registry, summary)
                        fetched += 1
                except Unavailable:
                    raise
                except RegistryError as error:
                    self._log.warning("a profile is not mirrored", name=summary.name, reason=error.message)
        self._log.info("mirrored profiles", url=self._url, fetched=fetched)
        return fetched

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"accept-encoding": "identity", "user-agent": "drift-bolt"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token!s}"
        async with httpx.AsyncClient(
            headers=headers, follow_redirects=False, timeout=SECONDS, trust_env=False
        ) as client:
            yield client

    async def _profiles(self, client: httpx.AsyncClient) -> AsyncIterator[ProfileSummary]:
        for page in range(1, MOST_PAGES):
            content = await self._ask(client, f"/v1/profiles?page={page}&per_page={PER_PAGE}")
            found = decoded(content, ProfileListResponse)
            for summary in found.profiles:
                yield summary
            if len(found.profiles) < PER_PAGE:
                return

    async def _is_wanted(self, summary: ProfileSummary) -> bool:
        """Says whether a version is not here, of a profile that nobody has published here."""
        check_name(summary.name)
        if VERSION.fullmatch(summary.version) is None:
            raise Invalid("its version is none")

        def read(db: Connection) -> list[tuple[str, str | None]]:
            query = select(versions.c.version, versions.c.mirror).join(entries, entries.c.id == versions.c.entry)
            query = query.where(entries.c.kind == "profile", entries.c.name == summary.name)
            return [(row[0], row[1]) for row in db.execute(query)]

        known = await self._records.read(read)
        return all(mirror == self._url for _, mirror in known) and summary.version not in (one for one, _ in known)

    async def _fetch(self, client: httpx.AsyncClient, registry: LocalRegistry, summary: ProfileSummary) -> None:
        path = f"/v1/profiles/{summary.name}"
        query = f"?version={summary.version}"
        detail = decoded(await self._ask(client, f"{path}{query}"), ProfileDetail)
        toml = await self._ask(client, f"{path}/download{query}")
        self._check(summary, detail, toml)
        said = detail.metadata
        kept = {name: getattr(said, name) for name in ProfileUploadMetadata.__struct_fields__}
        upload = ProfileUpload(profile=detail.profile, metadata=ProfileUploadMetadata(**kept))
        check_profile(upload.profile, limits=self._limits)
        check_profile_metadata(upload.metadata)
        mirror = (self._url, summary.version)
        await self._publisher.profile(registry, upload, said.author[:255], mirror=mirror)

    def _check(self, summary: ProfileSummary, detail: ProfileDetail, toml: bytes) -> None:
        """Raises `Invalid` unless the file is the one that the other registry has published."""
        layers = detail.manifest.layers
        if len(layers) != 1 or layers[0].digest != Digest.of(toml):
            raise Invalid("the file has another digest than its manifest says")
        try:
            profile = from_toml(toml)
        except ValueError as error:
            raise Invalid(f"the file is no profile: {error}") from error
        if profile != detail.profile or (profile.name, detail.metadata.version) != (summary.name, summary.version):
            raise Invalid("the file is another profile than the one that was asked for")

    async def _ask(self, client: httpx.AsyncClient, path: str) -> bytes:
        """Returns the body of a good answer. Raises `Unavailable`, and `Invalid` for what is refused or too long."""
        content = b""
        try:
            async with asyncio.timeout(SECONDS), client.stream("GET", f"{self._url}{path}") as answer:
                async for chunk in answer.aiter_raw():
                    content += chunk
                    if len(content) > LARGEST:
                        raise Invalid("an answer is too long")
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"{self._url} cannot be reached", reason=reason) from error
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{self._url} answers {answer.status_code}")
        if answer.status_code != HTTPStatus.OK:
            raise Invalid(f"{path} is answered {answer.status_code}")
        return content
