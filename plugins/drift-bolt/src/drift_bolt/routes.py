"""The routes below ``/v1`` as Bolt's client calls them, and what its second client asks of ``/v2``.

Bodies are JSON whatever their type is said to be: the client sends uploads under the type of what is in them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.exceptions import HTTPException
from litestar.params import Parameter
from litestar.response import Stream
from msgspec import Struct

from drift_bolt import artifacts, catalog, containers, figures, finding, packages, repository
from drift_bolt.binary_data import decoded
from drift_bolt.catalog import Entry, Kind
from drift_bolt.model import (
    PluginDetail,
    PluginListResponse,
    PluginSearchResponse,
    PluginUploadRequest,
    ProfileDetail,
    ProfileListResponse,
    ProfileSearchResponse,
    ProfileUpload,
    Rating,
    RegistryMetrics,
    SearchRequest,
    SearchResponse,
)
from drift_bolt.problems import Refusal, TooLarge, answer_error, answer_http
from drift_bolt.views import plugin_detail, plugin_summary, profile_detail, profile_summary, summary
from drift_core.api import RegistryError, Scope

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

T = TypeVar("T")

LARGEST_BODY: Final = 1 << 20
"""Most bytes of a body that is no plugin."""

POPULAR: Final = 10
"""Entries of each kind that the metrics name."""

VERSIONS: Final = 1000
"""Versions of one answer, the newest."""

Asked = Request[Any, Any, Any]
Number = Annotated[int | None, Parameter(ge=0, le=(1 << 32) - 1)]


class ProfilePublished(Struct, frozen=True):
    """What an upload of a profile has become."""

    message: str
    profile: str
    version: str


class PluginPublished(Struct, frozen=True):
    """What an upload of a plugin has become."""

    message: str
    plugin: str
    version: str


class VersionSummary(Struct, frozen=True):
    """A version of a profile or a plugin, and the digest of its artifact."""

    version: str
    author: str
    digest: str


class VersionList(Struct, frozen=True):
    """Versions, the newest first."""

    versions: list[VersionSummary]


class Rated(Struct, frozen=True):
    """The mean of all ratings, and how many there are."""

    rating: float
    rating_count: int


FOUND: Final[Mapping[Kind, type[Struct]]] = {"profile": ProfileSearchResponse, "plugin": PluginSearchResponse}


def routes_over(feature: "Bolt") -> Sequence[Any]:
    """Returns the handlers; those that Bolt's clients call without a login are public, and nothing else is."""
    handlers: Mapping[Any, Any] = {RegistryError: answer_error, HTTPException: answer_http}
    ours = [
        *_profiles(feature),
        *_plugins(feature),
        *_both(feature, "profile"),
        *_both(feature, "plugin"),
        *_metrics(feature),
        *repository.routes(feature),
        *containers.routes(feature.launcher),
    ]
    every = [
        Router("/v1", route_handlers=ours),
        Router("/v2", route_handlers=packages.routes(feature)),
    ]
    for router in every:
        router.exception_handlers = dict(handlers)
        router.opt["errors"] = Refusal
    return every


def may(kind: Kind, action: str) -> Scope:
    """Returns what a route needs; policies know these names."""
    return Scope("bolt", f"{kind}s", action)


def _profiles(feature: "Bolt") -> Sequence[Any]:
    @get("/profiles", scope=may("profile", "read"), answers=ProfileListResponse)
    async def listing(request: Asked, page: Number = None, per_page: Number = None) -> Response[bytes]:
        """Answers a page of profiles by name."""
        await feature.note(request.user)
        found = await feature.records.read(partial(finding.listing, kind="profile", page=page, per_page=per_page))
        profiles = [profile_summary(entry) for entry in found.entries]
        return answer(
            ProfileListResponse(profiles=profiles, total=found.total, page=found.page, per_page=found.per_page)
        )

    @post(
        "/profiles/upload", status_code=200, scope=may("profile", "write"), body=ProfileUpload, answers=ProfilePublished
    )
    async def upload(request: Asked) -> Response[bytes]:
        """Publishes the next version of a profile."""
        await feature.note(request.user)
        sent = await read_json(request, ProfileUpload)
        name, version = sent.profile.name, await feature.publish_profile(sent, request.user)
        message = f"published {name} {version.version}"
        return answer(ProfilePublished(message, name, version.version))

    @get("/profiles/{name:str}", scope=may("profile", "read"), answers=ProfileDetail)
    async def detail(request: Asked, name: str, version: str | None = None) -> Response[bytes]:
        """Answers everything about a version, the latest unless one is asked for."""
        await feature.note(request.user)
        entry, found, files = await feature.version("profile", name, version)
        verified = await feature.verified(feature.registry, "profile", name, found.version)
        return answer(profile_detail(entry, found, files[0], verified=verified))

    @get("/profiles/{name:str}/download", scope=may("profile", "read"), answers={artifacts.PROFILE_TOML: str})
    async def download(request: Asked, name: str, version: str | None = None) -> Stream:
        """Answers the TOML that Bolt reads."""
        await feature.note(request.user)
        _, file, content = await feature.download("profile", name, version, None)
        return _file(content, file.size, artifacts.PROFILE_TOML, f"{name}.toml", file.digest)

    return [listing, upload, detail, download]


def _plugins(feature: "Bolt") -> Sequence[Any]:
    @get("/plugins", scope=may("plugin", "read"), answers=PluginListResponse)
    async def listing(request: Asked, page: Number = None, per_page: Number = None) -> Response[bytes]:
        """Answers a page of plugins by name."""
        await feature.note(request.user)
        found = await feature.records.read(partial(finding.listing, kind="plugin", page=page, per_page=per_page))
        good = await feature.all_verified(feature.registry, found.entries)
        plugins = [plugin_summary(entry, verified=entry.name in good) for entry in found.entries]
        return answer(PluginListResponse(plugins=plugins, total=found.total, page=found.page, per_page=found.per_page))

    @post(
        "/plugins/upload",
        status_code=200,
        request_max_body_size=None,
        scope=may("plugin", "write"),
        body=PluginUploadRequest,
        answers=PluginPublished,
    )
    async def upload(request: Asked) -> Response[bytes]:
        """Publishes a plugin, whose library is in the body as an array of numbers."""
        await feature.note(request.user)
        sent, version = await feature.publish_plugin(request.stream(), request.user)
        name = sent.manifest.name
        message = f"published {name} {version.version}"
        return answer(PluginPublished(message, name, version.version))

    @get("/plugins/{name:str}", scope=may("plugin", "read"), answers=PluginDetail)
    async def detail(
        request: Asked, name: str, version: str | None = None, platform: str | None = None
    ) -> Response[bytes]:
        """Answers everything about a version, and the library for one platform."""
        await feature.note(request.user)
        entry, found, files = await feature.version("plugin", name, version)
        verified = await feature.verified(feature.registry, "plugin", name, found.version)
        return answer(plugin_detail(entry, found, files, platform, str(request.base_url), verified=verified))

    @get("/plugins/{name:str}/download", scope=may("plugin", "read"), answers={"application/octet-stream": bytes})
    async def download(request: Asked, name: str, version: str | None = None, platform: str | None = None) -> Stream:
        """Answers the library itself."""
        await feature.note(request.user)
        _, file, content = await feature.download("plugin", name, version, platform)
        return _file(content, file.size, "application/octet-stream", f"{name}.bin", file.digest)

    return [listing, upload, detail, download]


def _both(feature: "Bolt", kind: Kind) -> Sequence[Any]:
    @post(f"/{kind}s/search", status_code=200, public=True, body=SearchRequest, answers=FOUND[kind])
    async def search(request: Asked) -> Response[bytes]:
        """Answers a page of what is wanted, to anybody: Bolt's client never logs in for it."""
        wanted = await read_json(request, SearchRequest)
        found = await feature.records.read(partial(finding.search, kind=kind, wanted=wanted))
        # Bolt shows it of plugins only.
        good = await feature.all_verified(feature.registry, found.entries) if kind == "plugin" else set[str]()
        results = [summary(entry, verified=entry.name in good) for entry in found.entries]
        page = {"page": found.page, "per_page": found.per_page, "total_pages": found.pages}
        return answer(SearchResponse(results=results, total=found.total, **page))

    @delete(f"/{kind}s/{{name:str}}", status_code=204, scope=may(kind, "delete"))
    async def remove(request: Asked, name: str) -> None:
        """Takes every version away."""
        await feature.note(request.user)
        await feature.remove(kind, name, request.user)

    @get(f"/{kind}s/{{name:str}}/versions", scope=may(kind, "read"), answers=VersionList)
    async def versions(name: str) -> Response[bytes]:
        """Answers which versions there are, the newest first."""

        def read(db: Any) -> list[VersionSummary]:
            every = catalog.all_versions(db, catalog.find(db, kind, name), VERSIONS)
            return [VersionSummary(one.version, one.author, one.digest) for one in every]

        return answer(VersionList(await feature.records.read(read)))

    @post(f"/{kind}s/{{name:str}}/ratings", status_code=200, scope=may(kind, "read"), body=Rating, answers=Rated)
    async def rate(request: Asked, name: str) -> Response[bytes]:
        """Takes what somebody thinks, in the place of what the same person thought before."""
        await feature.note(request.user)
        rating = await read_json(request, Rating)
        entry = await feature.rate(kind, name, rating, request.user)
        return answer(Rated(entry.rating, entry.rating_count))

    return [search, remove, versions, rate]


def _metrics(feature: "Bolt") -> Sequence[Any]:
    @get("/metrics", scope=may("profile", "read"), answers=RegistryMetrics)
    async def overview(request: Asked) -> Response[bytes]:
        """Answers what everybody did."""
        await feature.note(request.user)

        def read(db: Any) -> tuple[figures.Sums, Sequence[Entry], Sequence[Entry]]:
            return figures.sums(db), finding.best(db, "profile", POPULAR), finding.best(db, "plugin", POPULAR)

        found, profiles, plugins = await feature.records.read(read)
        good = await feature.all_verified(feature.registry, plugins)
        return answer(
            RegistryMetrics(
                total_profiles=found.profiles,
                total_plugins=found.plugins,
                total_downloads=found.downloads,
                daily_downloads=found.daily,
                popular_profiles=[profile_summary(entry) for entry in profiles],
                popular_plugins=[plugin_summary(entry, verified=entry.name in good) for entry in plugins],
                storage_usage_bytes=found.bytes,
                active_users_30d=found.active_users,
            )
        )

    @get("/metrics/profiles", scope=may("profile", "read"), answers=figures.KindSums)
    async def profiles() -> Response[bytes]:
        """Answers what was done with profiles."""
        return answer(await feature.records.read(partial(figures.sums_of, kind="profile")))

    @get("/metrics/plugins", scope=may("plugin", "read"), answers=figures.PluginSums)
    async def plugins() -> Response[bytes]:
        """Answers what was done with plugins; their categories are types."""
        found = await feature.records.read(partial(figures.sums_of, kind="plugin"))
        return answer(figures.PluginSums(found.total, found.downloads_24h, found.downloads_7d, found.by_category))

    return [overview, profiles, plugins]


async def read_json(request: Asked, kind: type[T]) -> T:
    """Returns the body. Raises `Invalid`, `TooLarge`."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            raise TooLarge(f"the body has more than {LARGEST_BODY} bytes")
    return decoded(content, kind)


def answer(content: Any, status: int = 200) -> Response[bytes]:
    """Returns an answer in JSON."""
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json", headers=headers)


def _file(content: Any, size: int, media_type: str, name: str, digest: str) -> Stream:
    headers = {
        "content-length": str(size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "etag": f'"{digest}"',
        "x-content-type-options": "nosniff",
    }
    return Stream(content, media_type=media_type, headers=headers)
